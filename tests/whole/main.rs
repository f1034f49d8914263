//! Tests of the whole: real processes, real Docker, real etcd. What runs on Docker has `docker` in its name.

mod apps;
mod bridge;
mod canary;
mod certs;
mod clients;
mod commands;
mod crashes;
mod cut_off;
mod deploy_files;
mod deploys;
mod etcd_elsewhere;
mod faults;
mod hand_over;
mod images;
mod input;
mod installing;
mod proxy;
mod replacements;
mod scaling;
mod warm;
mod zero;
