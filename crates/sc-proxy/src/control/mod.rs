//! The control thread: everything that is not a request. It follows the source of routes, builds and swaps tables, keeps the last
//! one on disk, sends frames, answers the admin API and says that this proxy is there; and the same for certificates.
//!
//! **What `applied` promises.** A frame's `applied` is a revision whose routes every thread serves *and* the disk holds. So a
//! backend that those routes no longer list gets no request any more, not even from this proxy started anew with the
//! store dead; and the same frame's in-flight counts, read after `applied`, tell what it still has.

pub(crate) mod certs;
pub(crate) mod disk;
mod frames;
pub(crate) mod register;
mod state;

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sc_core::records::Proxy;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::{JoinHandle, spawn_local},
};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::state::{Published, SourceState, State};
use self::{
    disk::Disk,
    register::{Leaves, Registrar},
};
use crate::{
    admin,
    live::Shared,
    probe,
    source::{RouteSource, Update},
    tls::{Folder, Shelf},
    worker::Signal,
};

/// How many changes may wait to be worked in before the source has to.
const UPDATES: usize = 64;
/// How many frames a slow reader may be behind before it is dropped.
const FRAMES: usize = 16;
/// Frames out of turn come no closer than this.
const URGENT_GAP: Duration = Duration::from_millis(10);

/// What the control thread is made from.
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) boot: String,
    pub(crate) record: Proxy,
    pub(crate) shared: Arc<Shared>,
    pub(crate) signal: Arc<watch::Sender<Signal>>,
    pub(crate) source: SourceSeed,
    pub(crate) registrar: Option<Registrar>,
    pub(crate) disk: Option<Disk>,
    /// The folder of certificates to watch.
    pub(crate) certs: Option<Folder>,
    /// Where certificates and challenges of the store come from.
    pub(crate) cert_source: Option<certs::CertSeed>,
    /// Where certificates are put; none: no TLS is served.
    pub(crate) shelf: Option<Arc<Shelf>>,
    pub(crate) admin: admin::Socket,
    pub(crate) published: Published,
    pub(crate) phase: Arc<watch::Sender<Phase>>,
    pub(crate) settings: Settings,
    /// Tells to stop, and how; also when its other end is gone.
    pub(crate) stop: oneshot::Receiver<Leaves>,
}

/// What the proxy goes by, for whoever asks.
pub(crate) struct Settings {
    /// What is fixed from the start.
    pub(crate) fixed: serde_json::Value,
    /// What is logged, if that is the proxy's to say.
    pub(crate) log: Option<admin::LogFilter>,
    /// The certificates in force, if TLS is served.
    pub(crate) certs: Option<Arc<Shelf>>,
}

/// Whose the admin socket and the data folder are, in an upgrade. Without one they are this process's from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Still of the process before.
    Waiting,
    /// This process's.
    Serving,
    /// This process is to leave them to the next.
    LettingGo,
    /// It has left them.
    Gone,
}

/// Makes the source on the control thread, where it stays.
pub(crate) type SourceSeed = Box<dyn FnOnce() -> Box<dyn RouteSource> + Send>;

/// What the tasks of the control thread share.
pub(crate) struct Control {
    pub(crate) state: RefCell<State>,
    pub(crate) shared: Arc<Shared>,
    signal: Arc<watch::Sender<Signal>>,
    frames: broadcast::Sender<Bytes>,
    /// A frame is wanted now: something has been applied, or a reader has come.
    frame_now: tokio::sync::Notify,
    /// A table or the way of probing has changed.
    pub(crate) published: tokio::sync::Notify,
    /// A change was missed: all routes are to be read anew.
    pub(crate) relist: tokio::sync::Notify,
    pub(crate) settings: Settings,
}

/// Runs the control thread until it is told to stop.
///
/// # Errors
/// When no runtime can be made, or the admin socket cannot be used.
pub(crate) fn run(parts: Parts) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async {
        let state =
            State::new(parts.id.clone(), parts.boot, parts.published, parts.shared.clone(), parts.disk.is_some());
        let control = Rc::new(Control {
            state: RefCell::new(state),
            shared: parts.shared,
            signal: parts.signal,
            frames: broadcast::channel(FRAMES).0,
            frame_now: tokio::sync::Notify::new(),
            published: tokio::sync::Notify::new(),
            relist: tokio::sync::Notify::new(),
            settings: parts.settings,
        });
        let (saves, registered) = (watch::channel(()), watch::channel(None));
        let cert_saves = watch::channel(());
        let (updates, incoming) = mpsc::channel(UPDATES);
        let mut tasks = vec![
            spawn_local(follow(control.clone(), (parts.source)(), updates)),
            spawn_local(publish(control.clone(), incoming, saves.0)),
            spawn_local(frames::send(control.clone())),
            spawn_local(watch_applied(control.clone())),
            spawn_local(probe::run(control.clone())),
            spawn_local(own(
                control.clone(),
                parts.admin,
                parts.disk,
                (saves.1, cert_saves.1),
                parts.shelf.clone(),
                parts.phase,
            )),
        ];
        let follow_certs = |seed: certs::CertSeed| certs::follow(control.clone(), seed(), parts.shelf, cert_saves.0);
        tasks.extend(parts.cert_source.map(|seed| spawn_local(follow_certs(seed))));
        tasks.extend(parts.certs.map(|folder| spawn_local(folder.watch())));
        let registrar = parts.registrar.map(|r| spawn_local(r.run(parts.id, parts.record, registered.1)));
        let leaves = parts.stop.await.unwrap_or(Leaves::Stopped);
        registered.0.send_replace(Some(leaves));
        leave(registrar).await;
        tasks.iter().for_each(JoinHandle::abort);
        Ok(())
    })
}

/// Serves the admin socket and keeps the routes on disk whenever these are this process's.
async fn own(
    control: Rc<Control>,
    socket: admin::Socket,
    disk: Option<Disk>,
    saves: (watch::Receiver<()>, watch::Receiver<()>),
    shelf: Option<Arc<Shelf>>,
    phase: Arc<watch::Sender<Phase>>,
) {
    let mut now = phase.subscribe();
    // It may be told to let go before it has seen that these are its own: upgrades can come one upon the other.
    let mine = |phase: &Phase| matches!(phase, Phase::Serving | Phase::LettingGo);
    while let Ok(is) = now.wait_for(mine).await.map(|phase| *phase) {
        if is == Phase::LettingGo {
            gone(&phase);
            continue;
        }
        let served = socket.try_clone().and_then(|socket| admin::serve(control.clone(), socket));
        let served = match served {
            Ok(serve) => AbortOnDropHandle::new(spawn_local(serve)),
            Err(error) => return tracing::error!(%error, "the admin socket cannot be used"),
        };
        let kept = disk.clone().map(|disk| {
            control.state.borrow_mut().keeps(true);
            let keep = disk::keep(control.clone(), disk, saves.0.clone(), phase.subscribe());
            AbortOnDropHandle::new(spawn_local(keep))
        });
        let certs = disk.clone().zip(shelf.clone()).map(|(disk, shelf)| {
            AbortOnDropHandle::new(spawn_local(certs::keep(disk, shelf, saves.1.clone(), phase.subscribe())))
        });
        let _ = now.wait_for(|phase| *phase != Phase::Serving).await;
        drop(served);
        if let Some(certs) = certs {
            let _ = certs.await;
        }
        if let Some(kept) = kept {
            let _ = kept.await;
            control.state.borrow_mut().keeps(false);
            control.applied_moved();
        }
        gone(&phase);
    }
}

/// Admin socket and data folder are left, unless they were taken back meanwhile.
fn gone(phase: &watch::Sender<Phase>) {
    phase.send_if_modified(|phase| {
        let leaves = *phase == Phase::LettingGo;
        if leaves {
            *phase = Phase::Gone;
        }
        leaves
    });
}

/// Waits a moment for the registration to be taken back.
async fn leave(registrar: Option<JoinHandle<()>>) {
    if let Some(registrar) = registrar {
        let _ = tokio::time::timeout(Duration::from_secs(2), registrar).await;
    }
}

async fn follow(control: Rc<Control>, mut source: Box<dyn RouteSource>, updates: mpsc::Sender<Update>) {
    loop {
        let update = tokio::select! {
            update = source.next() => update,
            () = control.relist.notified() => {
                tracing::info!("told that routes have changed: all are read anew");
                source.relist();
                continue;
            }
        };
        if updates.send(update).await.is_err() {
            return;
        }
    }
}

/// Works changes into the table. What has piled up meanwhile is one change.
async fn publish(control: Rc<Control>, mut updates: mpsc::Receiver<Update>, saves: watch::Sender<()>) {
    while let Some(update) = updates.recv().await {
        let generation = {
            let mut state = control.state.borrow_mut();
            state.merge(update);
            while let Ok(update) = updates.try_recv() {
                state.merge(update);
            }
            state.publish(Instant::now())
        };
        if let Some(generation) = generation {
            control.signal.send_modify(|signal| signal.generation = generation);
        }
        saves.send_replace(());
        control.published.notify_one();
        control.applied_moved();
    }
}

/// Sends a frame as soon as more is applied than was.
async fn watch_applied(control: Rc<Control>) {
    loop {
        control.shared.applied.notified().await;
        control.applied_moved();
    }
}

impl Control {
    /// Something that `applied` depends on has changed.
    pub(crate) fn applied_moved(&self) {
        if self.state.borrow_mut().applied_anew() {
            self.frame_now.notify_one();
        }
    }

    /// The frames from now on, the next at once.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Bytes> {
        self.frame_now.notify_one();
        self.frames.subscribe()
    }

    /// Whether it can serve: it has a table and is not stopping.
    pub(crate) fn is_ready(&self) -> bool {
        self.shared.has_table.load(std::sync::atomic::Ordering::Acquire) && self.signal.borrow().stop_by.is_none()
    }
}
