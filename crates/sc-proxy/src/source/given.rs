//! Routes given in process.

use async_trait::async_trait;
use tokio::sync::watch;

use super::{RouteSource, Update};
use crate::config::Given;

/// Follows a value in this process.
pub(crate) struct GivenSource(pub(crate) watch::Receiver<Given>, pub(crate) bool);

#[async_trait(?Send)]
impl RouteSource for GivenSource {
    async fn next(&mut self) -> Update {
        let first = !std::mem::replace(&mut self.1, true);
        if !first && self.0.changed().await.is_err() {
            std::future::pending::<()>().await; // nobody will ever say anything again
        }
        let given = self.0.borrow_and_update().clone();
        Update { revision: given.revision, whole: true, put: given.apps, ..Update::default() }
    }
}
