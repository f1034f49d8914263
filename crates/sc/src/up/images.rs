//! The images of a release: looked for, and built where the means are at hand.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;

use super::{host::Host, parts::RELEASE};
use crate::{exit, out::Progress};

/// Makes sure that the images are there.
///
/// # Errors
/// When some are missing and cannot be built; says how to get them.
pub(crate) async fn ensure(host: &Host, wanted: &[String], progress: &mut Progress) -> anyhow::Result<()> {
    let missing = missing(host, wanted).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let Some(script) = script() else {
        let hint = "in a checkout of sc, run deploy/images; it builds them with no registry";
        return Err(exit::failure(
            exit::ERROR,
            format!("these images are missing: {}\n  → {hint}", missing.join(", ")),
        ));
    };
    progress.say(&format!("building {} (a few minutes, the first time)", missing.join(", ")));
    let names = missing.iter().filter_map(|image| image.strip_prefix("sc/")?.split(':').next());
    let only = names.collect::<Vec<_>>().join(",");
    // What it says is progress, whatever it says it to.
    let mut build = tokio::process::Command::new(&script);
    build.args(["--only", &only]).stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
    let status = build.status().await.with_context(|| format!("{} cannot be run", script.display()))?;
    anyhow::ensure!(status.success(), "{} failed ({status})", script.display());
    let left = self::missing(host, wanted).await?;
    anyhow::ensure!(left.is_empty(), "{} did not build {}", script.display(), left.join(", "));
    Ok(())
}

async fn missing(host: &Host, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    for image in wanted {
        if host.image_id(image).await?.is_none() && !missing.contains(image) {
            missing.push(image.clone());
        }
    }
    Ok(missing)
}

/// `deploy/images` of the checkout of this release that the user is in.
fn script() -> Option<PathBuf> {
    let here = env::current_dir().ok()?;
    let is_ours = |folder: &Path| {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.contains("sc-manager") && manifest.contains(&format!("version = \"{RELEASE}\""))
    };
    let folder = here.ancestors().find(|folder| folder.join("deploy/images").is_file() && is_ours(folder))?;
    Some(folder.join("deploy/images"))
}
