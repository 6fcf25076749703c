//! Shell scripts that run servers.

use std::ffi::OsStr;
use std::process::Command;

/// A word as the shell reads it.
pub(super) fn quoted(word: impl AsRef<OsStr>) -> String {
    format!("'{}'", word.as_ref().to_string_lossy().replace('\'', r"'\''"))
}

/// A command as the shell reads it.
pub(super) fn line(command: &Command) -> String {
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    words.join(" ")
}

/// Runs a command, which the shell is to read. Killed (137 is 128 and SIGKILL), it starts again at once;
/// ended otherwise, it stays so.
pub(super) fn again_when_killed(command: &str) -> String {
    format!(
        "\
while :; do
  {command} &
  echo $! > pid
  wait $!
  code=$?
  [ $code = 137 ] || exit $code
done
"
    )
}

/// `sh kill.sh`: kills what [`again_when_killed`] runs.
pub(super) const KILL: &str = "\
kill -KILL \"$(cat \"$(dirname \"$0\")/pid\")\"
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_quotes_what_it_runs() {
        let mut java = Command::new("java");
        java.arg("-cp").arg("/it's here/*");
        let script = again_when_killed(&line(&java));
        assert!(script.contains(r"  'java' '-cp' '/it'\''s here/*' &"), "{script}");
    }
}
