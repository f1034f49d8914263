//! Files in and out of a container, as tar.

use bollard::query_parameters::{DownloadFromContainerOptions, UploadToContainerOptions};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use sc_core::ReplicaId;

use super::{Failure, Inner, LONG, is, refusal};
use crate::EngineError;

impl Inner {
    pub(super) async fn download(
        &self,
        replica: &ReplicaId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        let container = self.find(replica).await?;
        let what = format!("copy {path} out of {replica}");
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        // The first piece tells whether there is anything.
        let begun = self.ask(&what, self.config.deadline, |docker| async move {
            let mut pieces = docker.download_from_container(&container, Some(options)).boxed();
            let first = pieces.try_next().await?;
            Ok((first, pieces))
        });
        let (first, rest) = match begun.await {
            Ok(begun) => begun,
            Err(Failure::Docker(error)) if is(&error, 404) => {
                return Err(EngineError::refused(format!("there is no {path} in {replica}"), "Check the path"));
            }
            Err(failure) => return Err(self.plain(&what, failure)),
        };
        let engine = self.name();
        let rest = rest.map_err(move |error| EngineError::Failed { engine: engine.clone(), what: error.to_string() });
        Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
    }

    pub(super) async fn upload(
        &self,
        replica: &ReplicaId,
        directory: &str,
        tar: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), EngineError> {
        let container = self.find(replica).await?;
        let what = format!("copy into {directory} of {replica}");
        let options = UploadToContainerOptions { path: directory.to_owned(), ..UploadToContainerOptions::default() };
        let done = self.ask(&what, LONG, |docker| async move {
            docker.upload_to_container(&container, Some(options), bollard::body_try_stream(tar)).await
        });
        match done.await {
            Ok(()) => Ok(()),
            Err(Failure::Docker(error)) if refusal(&error).is_some_and(|(code, _)| matches!(code, 400 | 403 | 404)) => {
                let words = refusal(&error).map_or("", |(_, words)| words);
                Err(EngineError::refused(format!("{what}: {}", words.trim()), "Check the path"))
            }
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }
}
