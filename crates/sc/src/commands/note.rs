//! The command line as `sc history` shows it later: without what may be secret.

/// The running command.
pub(super) fn of_this_command() -> String {
    note(std::env::args())
}

/// Values of environment variables are left out.
fn note(args: impl IntoIterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut hide = false;
    for (i, word) in args.into_iter().enumerate() {
        let word = match (i, word.strip_prefix("--env=").or(word.strip_prefix("-e").filter(|w| w.contains('=')))) {
            (0, _) => "sc".to_owned(),
            (_, Some(pair)) => format!("--env={}", without_value(pair)),
            _ if hide => without_value(&word),
            _ => word,
        };
        hide = matches!(word.as_str(), "--env" | "-e");
        let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+*…".contains(c));
        words.push(if plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) });
    }
    words.join(" ")
}

fn without_value(pair: &str) -> String {
    pair.split_once('=').map_or(pair.to_owned(), |(name, _)| format!("{name}=…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_the_environment_is_kept() {
        let args = ["/x/sc", "run", "web", "--env", "KEY=s3cret", "-eB=s3cret", "--env=A=s3cret", "--", "echo", "it's"];
        assert_eq!(note(args.map(str::to_owned)), "sc run web --env KEY=… --env=B=… --env=A=… -- echo 'it'\\''s'");
    }
}
