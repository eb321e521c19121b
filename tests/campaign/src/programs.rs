//! The other programs of a run: built when cargo runs the campaign, so that none of them is an old one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tidelock_campaign::Result;

/// The program of that name beside this one, built first if cargo is at hand.
pub(crate) fn program(package: &str, name: &str) -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name(name);
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut command = Command::new(cargo);
        command
            .args(["build", "--quiet", "-p", package, "--bin", name])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let profile = beside.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        match profile {
            Some("debug") | None => {}
            Some(profile) => drop(command.args(["--profile", profile])),
        }
        let status = command.status()?;
        if !status.success() {
            return Err(format!("cargo build of {name}: {status}").into());
        }
    }
    match beside.is_file() {
        true => Ok(beside),
        false => Err(format!("there is no {}: build package {package}", beside.display()).into()),
    }
}
