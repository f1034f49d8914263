//! Active probes, for a proxy that stands alone: with a manager, that is who probes.
//!
//! The control thread has one task per probed backend, whatever the number of workers. A verdict is one atomic store in the
//! [`Backend`], which the choice of a backend looks at.

mod ask;
mod spec;
mod verdict;

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use tokio::task::{JoinHandle, spawn_local};

pub use self::spec::{Probe, Probes};
use self::verdict::Verdict;
use crate::{control::Control, live::Backend, source::random};

/// One backend's prober. Dropping it stops it, and holds nothing against the backend any more.
struct Prober {
    probe: Probe,
    backend: Arc<Backend>,
    task: JoinHandle<()>,
}

impl Prober {
    fn start(probe: &Probe, backend: &Arc<Backend>) -> Self {
        let task = spawn_local(watch(probe.clone(), backend.clone()));
        Self { probe: probe.clone(), backend: backend.clone(), task }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
        self.backend.set_down(false);
    }
}

/// Keeps a prober for each backend in the table whose app is probed, until it is aborted.
pub(crate) async fn run(control: Rc<Control>) {
    let mut probers: BTreeMap<u64, Prober> = BTreeMap::new();
    loop {
        control.published.notified().await;
        let probes = control.state.borrow().probes();
        let table = control.shared.table.load_full();
        let mut next = BTreeMap::new();
        for app in &table.apps {
            let Some(probe) = probes.get(&app.id) else { continue };
            for member in &app.members {
                let serial = member.backend.serial;
                let known = probers.remove(&serial).filter(|prober| prober.probe == *probe);
                next.insert(serial, known.unwrap_or_else(|| Prober::start(probe, &member.backend)));
            }
        }
        probers = next;
    }
}

async fn watch(probe: Probe, backend: Arc<Backend>) {
    let mut verdict = Verdict::default();
    loop {
        let answer = tokio::time::timeout(probe.timeout, ask::ask(backend.addr, probe.path.as_deref())).await;
        let failure = match answer {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why.to_string()),
            Err(_) => Some(format!("no answer within {:?}", probe.timeout)),
        };
        if let Some(down) = verdict.saw(failure.is_none(), &probe) {
            backend.set_down(down);
            let (replica, addr) = (&backend.replica, backend.addr);
            match failure {
                Some(failure) => tracing::warn!(%replica, %addr, failure, "passed over after failed probes"),
                None => tracing::info!(%replica, %addr, "healthy again"),
            }
        }
        // Spread, so that many backends are not probed at one moment.
        let spread = probe.interval.mul_f64(0.9 + random() / 5.0);
        tokio::time::sleep(spread.max(Duration::from_millis(1))).await;
    }
}
