//! Running a program inside a container.

use bollard::{
    container::LogOutput,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
    query_parameters::ResizeExecOptions,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use sc_core::ReplicaId;
use tokio::sync::watch;

use super::Inner;
use crate::{EngineError, ExecOutput, ExecSession, ExecSpec, resized_by};

/// A new size that takes longer is given up: the next one comes with the next change.
const RESIZE: std::time::Duration = std::time::Duration::from_secs(5);

impl Inner {
    /// Starts it. It goes on when the session is dropped: Docker has no way to end it.
    pub(super) async fn run(&self, replica: &ReplicaId, spec: &ExecSpec) -> Result<ExecSession, EngineError> {
        let container = self.find(replica).await?;
        let what = format!("run {} in {replica}", spec.command.first().map_or("", String::as_str));
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(spec.tty.is_some()),
            cmd: Some(spec.command.clone()),
            env: spec.tty.map(|_| vec!["TERM=xterm-256color".to_owned()]),
            ..ExecConfig::default()
        };
        let tty = spec.tty;
        let (docker, id, started) = self
            .call(&what, |docker| async move {
                let id = docker.create_exec(&container, config).await?.id;
                let options = StartExecOptions { tty: tty.is_some(), ..StartExecOptions::default() };
                let started = docker.start_exec(&id, Some(options)).await?;
                if let Some((w, h)) = tty {
                    // The program may have ended already.
                    let _ = docker.resize_exec(&id, ResizeExecOptions { w: w.into(), h: h.into() }).await;
                }
                Ok((docker, id, started))
            })
            .await?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(self.failed(format!("{what}: Docker gave no streams")));
        };
        let size = match tty {
            None => watch::Sender::new((0, 0)),
            Some(_) => {
                let (docker, id) = (docker.clone(), id.clone());
                resized_by(move |w, h| {
                    let (docker, id) = (docker.clone(), id.clone());
                    let resized = async move {
                        // The program may have ended already.
                        let _ = docker.resize_exec(&id, ResizeExecOptions { w: w.into(), h: h.into() }).await;
                    };
                    async move { drop(tokio::time::timeout(RESIZE, resized).await) }
                })
            }
        };
        let output = output.map_ok(said).chain(stream::once(async move {
            let code = docker.inspect_exec(&id).await?.exit_code.unwrap_or(255);
            Ok(ExecOutput::Exit(i32::try_from(code).unwrap_or(255)))
        }));
        let engine = self.name();
        let output = output.map_err(move |error: bollard::errors::Error| EngineError::Failed {
            engine: engine.clone(),
            what: error.to_string(),
        });
        Ok(ExecSession { output: output.boxed(), input: Box::new(input), size })
    }
}

fn said(output: LogOutput) -> ExecOutput {
    match output {
        LogOutput::StdErr { message } => ExecOutput::Stderr(message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            ExecOutput::Stdout(message)
        }
    }
}
