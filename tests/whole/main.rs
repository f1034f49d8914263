//! Tests of the whole: real processes, real Docker, real etcd.
