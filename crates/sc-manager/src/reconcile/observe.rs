//! Looking: the engine, the probes' answers, the proxies' reports, as one [`Observed`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sc_core::observed::{Node, Observed};
use tokio::time::timeout;

use crate::{waiting::chain, world::World};

/// How long the engine may take to say what it has. A pass waits for that.
const LIMIT: Duration = Duration::from_secs(5);
/// The name of this part in [`crate::waiting::Waiting`].
pub const ENGINE: &str = "engine";

/// Looks at everything.
pub async fn observe(world: &World) -> Arc<Observed> {
    let node = look(world).await;
    let observed = Arc::new(Observed {
        at: world.now_ms(),
        nodes: BTreeMap::from([(world.engine.node(), node)]),
        probes: world.answers.all(),
        refused: world.refused(),
        proxies: world.reports.seen(),
    });
    world.saw(observed.clone());
    observed
}

async fn look(world: &World) -> Node {
    let why = match timeout(LIMIT, world.engine.observe()).await {
        Ok(Ok(node)) => {
            if world.waiting.present(ENGINE) {
                world.events.info("engine_back", None, format!("{} is back", world.engine.describe()));
            }
            return node;
        }
        Ok(Err(error)) => chain(&error),
        Err(_late) => format!("{} did not answer within {} s", world.engine.describe(), LIMIT.as_secs()),
    };
    if world.waiting.missing(ENGINE, why.clone()) {
        world.events.warn(
            "engine_lost",
            None,
            format!("{why}. Nothing is started, stopped or replaced until it is back"),
        );
    }
    Node::Unknown { why }
}
