//! The store's own id: a random text in it, so that two installations on one engine never touch each other's replicas.

use std::{fs, path::Path, time::Duration};

use sc_store::{Expect, Store, StoreError, Write};
use tokio::time::sleep;

use crate::waiting::chain;

/// Its key.
const KEY: &str = "id";
/// Where the data folder remembers it, so that a manager starts while its store is away.
const FILE: &str = "store-id";

/// The store's id; made when the store has none. Waits for the store only if this data folder never knew it.
///
/// # Errors
/// When the store is another one than this data folder was used with.
pub async fn store_id(store: &dyn Store, data: &Path) -> anyhow::Result<String> {
    let file = data.join(FILE);
    let known = fs::read_to_string(&file).ok().map(|text| text.trim().to_owned()).filter(|id| !id.is_empty());
    let mut told = false;
    loop {
        match read_or_make(store, known.as_deref()).await {
            Ok(id) => {
                fs::create_dir_all(data)?;
                fs::write(&file, &id)?;
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

/// An empty store (its file was lost, say) gets the id that this folder knew: the replicas that run carry it.
async fn read_or_make(store: &dyn Store, known: Option<&str>) -> Result<String, StoreError> {
    let now = store.load(KEY).await?;
    if let Some(entry) = now.entries.get(KEY) {
        return Ok(String::from_utf8_lossy(&entry.value).into_owned());
    }
    let id = known.map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned);
    let expect = Expect { key: KEY.to_owned(), revision: 0 };
    let put = Write::Put { key: KEY.to_owned(), value: id.clone().into_bytes(), lease: None };
    store.commit(None, vec![expect], vec![put]).await?;
    Ok(id)
}
