//! Certificates: what there is, adding and removing one, and the stream for proxies without access to the store.

use std::sync::Arc;

use futures_util::stream;
use hyper::StatusCode;
use sc_api::types::{CertsUpdate, OpenedCert, OpenedCerts, PutCert};
use sc_core::certs::{Certificates, cert_key};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Duration, timeout},
};

use super::{Answer, Api, Call, body};
use crate::{certs, commands, mirror::Changed, problem, waiting::chain, world::World};

/// Without a change, a line without content says that the stream lives.
const LIVES: Duration = Duration::from_secs(3);

impl Api {
    pub(super) fn certs(&self) -> Answer {
        Ok(body::json(StatusCode::OK, &certs::views(&self.world, &*self.desired()?)))
    }

    pub(super) async fn put_cert(&self, call: Call) -> Answer {
        let name = call.param("name").to_owned();
        let cert: PutCert = body::read(call.request.into_body()).await?;
        let accepted = commands::put_cert(&self.world, &name, &cert).await?;
        Ok(body::json(StatusCode::OK, &accepted))
    }

    pub(super) async fn remove_cert(&self, call: &Call) -> Answer {
        let accepted = commands::remove_cert(&self.world, call.param("name")).await?;
        Ok(body::json(StatusCode::OK, &accepted))
    }

    pub(super) fn opened_certs(&self) -> Answer {
        if self.world.certificates().is_none() {
            return Err(problem::no_store(self.world.waiting.text()));
        }
        let world = self.world.clone();
        let changes = world.mirror.changes();
        let following = Following { world, changes, sent: None, _room: self.stream()? };
        let updates = stream::unfold(following, |mut following| async move {
            let update = following.next().await;
            Some((update, following))
        });
        Ok(body::lines(updates))
    }
}

struct Following {
    world: Arc<World>,
    changes: Changed,
    sent: Option<OpenedCerts>,
    _room: OwnedSemaphorePermit,
}

impl Following {
    async fn next(&mut self) -> CertsUpdate {
        loop {
            let quiet = self.sent.is_some() && timeout(LIVES, self.changes.next()).await.is_err();
            let Some(certificates) = self.world.certificates() else { continue };
            let (all, revision) = (opened(&self.world, &certificates), certificates.revision);
            if self.sent.as_ref() != Some(&all) {
                self.sent = Some(all.clone());
                return CertsUpdate { revision, all: Some(all) };
            }
            if quiet {
                return CertsUpdate { revision, all: None };
            }
        }
    }
}

fn opened(world: &World, certificates: &Certificates) -> OpenedCerts {
    let mut all = OpenedCerts::default();
    for (name, kept) in &certificates.certs {
        match world.vault.unseal(&cert_key(name), &kept.record.key) {
            Ok(key) => {
                let opened = OpenedCert { chain: kept.record.chain.clone(), key: key.0 };
                all.certs.insert(name.clone(), opened);
            }
            Err(error) => drop(all.broken.insert(name.clone(), chain(&error))),
        }
    }
    for (key, (why, _)) in &certificates.unreadable {
        if let Some(name) = key.strip_prefix(sc_core::certs::CERTS) {
            all.broken.insert(name.to_owned(), format!("its record is not readable: {why}"));
        }
    }
    let challenges = certificates.challenges.iter();
    all.challenges = challenges.map(|(token, kept)| (token.clone(), kept.record.answer.clone())).collect();
    all
}
