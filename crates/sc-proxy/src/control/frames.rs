//! Frames: one at every full second, and at once when something cannot wait.

use std::{
    rc::Rc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;

use super::{Control, URGENT_GAP};

/// Sends frames to all readers until it is aborted.
pub(super) async fn send(control: Rc<Control>) {
    loop {
        let urgent = tokio::select! {
            () = tokio::time::sleep(to_full_second()) => {
                if control.state.borrow_mut().sweep(Instant::now()) {
                    control.signal.send_modify(|_| ()); // the threads look
                }
                false
            }
            () = control.shared.urgent.notified() => true,
            () = control.frame_now.notified() => false,
        };
        if control.frames.receiver_count() > 0 {
            let frame = control.state.borrow_mut().frame(urgent);
            let mut line = serde_json::to_vec(&frame).expect("a frame holds only what JSON can say");
            line.push(b'\n');
            let _ = control.frames.send(Bytes::from(line));
        }
        tokio::time::sleep(URGENT_GAP).await;
    }
}

fn to_full_second() -> std::time::Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    std::time::Duration::from_nanos(1_000_000_000 - u64::from(now.subsec_nanos()))
}
