//! The store's own id: a random text in it, so that two installations on one engine never touch each other's replicas.

use std::{fs, path::Path, time::Duration};

use sc_store::{Expect, Store, StoreError, Write};
use tokio::time::sleep;

use crate::waiting::chain;

/// Its key.
pub(crate) const KEY: &str = "id";
/// Where the data folder remembers it, so that a manager starts while its store is away.
const FILE: &str = "store-id";

/// The store's id; made when the store has none. Waits for the store only if this data folder never knew it.
///
/// A store that was emptied gets a new id, so that what still runs under the old one is left alone, not taken for
/// left-overs.
///
/// # Errors
/// When the data folder cannot be written.
pub async fn store_id(store: &dyn Store, data: &Path) -> anyhow::Result<String> {
    let known = known(data);
    let mut told = false;
    loop {
        match read_or_make(store).await {
            Ok(id) => {
                if let Some(old) = known.filter(|known| *known != id) {
                    tracing::warn!(
                        "the store is another one than before: what runs with the label sc.store={old} is left alone"
                    );
                }
                fs::create_dir_all(data)?;
                fs::write(data.join(FILE), &id)?;
                return Ok(id);
            }
            Err(error) => {
                if let Some(known) = known {
                    tracing::warn!(error = chain(&error), "the store is missing; going on with what is known of it");
                    return Ok(known);
                }
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(error = chain(&error), "waiting for the store");
                }
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// The id of the store that a data folder was last used with.
pub(crate) fn known(data: &Path) -> Option<String> {
    let text = fs::read_to_string(data.join(FILE)).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

async fn read_or_make(store: &dyn Store) -> Result<String, StoreError> {
    let now = store.load(KEY).await?;
    if let Some(entry) = now.entries.get(KEY) {
        return Ok(String::from_utf8_lossy(&entry.value).into_owned());
    }
    let id = format!("{:016x}", rand::random::<u64>());
    let expect = Expect { key: KEY.to_owned(), revision: 0 };
    let put = Write::Put { key: KEY.to_owned(), value: id.clone().into_bytes(), lease: None };
    store.commit(None, vec![expect], vec![put]).await?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use sc_store::Memory;

    use super::*;

    #[tokio::test]
    async fn an_id_belongs_to_one_store() {
        let (dir, store) = (tempfile::tempdir().unwrap(), Memory::new());
        let id = store_id(&store, dir.path()).await.unwrap();
        assert_eq!(store_id(&store, dir.path()).await.unwrap(), id);
        assert_eq!(known(dir.path()), Some(id.clone()));
        let emptied = Memory::new();
        let new = store_id(&emptied, dir.path()).await.unwrap();
        assert_ne!(new, id);
        assert_eq!(known(dir.path()), Some(new));
    }
}
