//! Running cargo as a child, in the workspace.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace this command was run in.
pub(crate) fn workspace() -> PathBuf {
    // Cargo says where the package is at run time; the place at compile time is for running the
    // binary itself.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// The cargo that runs this command, with these arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    let told = env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    workspace().join(told.unwrap_or_else(|| "target".into()))
}
