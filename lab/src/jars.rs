//! The jars of Apache Kafka, fetched once.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result, process};

/// The Apache Kafka that a lab runs.
pub const KAFKA_VERSION: &str = "4.3.1";

const POM: &str = include_str!("../kafka/pom.xml");

/// Makes sure the jars are under `root` and returns their directory. Only the first call on a machine needs
/// Maven and the network; concurrent first calls wait for one of them.
pub fn fetch(root: &Path) -> Result<PathBuf> {
    let jars = root.join(format!("kafka-{KAFKA_VERSION}"));
    if complete(&jars) {
        return Ok(jars);
    }
    fs::create_dir_all(root).map_err(Error::io(format!("create {}", root.display())))?;
    let lock = root.join("fetch.lock");
    let lock = File::create(&lock).map_err(Error::io(format!("create {}", lock.display())))?;
    lock.lock().map_err(Error::io("lock fetch.lock"))?;
    if complete(&jars) {
        return Ok(jars);
    }
    let part = root.join("fetch.part");
    for stale in [&part, &jars] {
        if stale.exists() {
            fs::remove_dir_all(stale).map_err(Error::io(format!("remove {}", stale.display())))?;
        }
    }
    fs::create_dir_all(&part).map_err(Error::io(format!("create {}", part.display())))?;
    let pom = part.join("pom.xml");
    fs::write(&pom, POM).map_err(Error::io(format!("write {}", pom.display())))?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(&pom).args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-DoutputDirectory={}", part.display()));
    if !on_path("mvn") {
        return Err(Error::Missing { what: "mvn", hint: "install Maven, e.g. apt-get install maven" });
    }
    process::run(&mut maven)?;
    // The rename is what makes a fetch complete.
    fs::rename(&part, &jars).map_err(Error::io(format!("move the jars to {}", jars.display())))?;
    Ok(jars)
}

/// Complete, and fetched by the pom of this build.
fn complete(jars: &Path) -> bool {
    fs::read_to_string(jars.join("pom.xml")).is_ok_and(|pom| pom == POM)
}

/// The Java to run: of `JAVA_HOME`, or of the path.
pub(crate) fn java() -> Result<PathBuf> {
    const HINT: &str = "install a Java 17 runtime, e.g. apt-get install openjdk-17-jre-headless";
    if let Some(home) = env::var_os("JAVA_HOME") {
        let java = PathBuf::from(home).join("bin/java");
        if java.exists() {
            return Ok(java);
        }
    }
    if on_path("java") { Ok("java".into()) } else { Err(Error::Missing { what: "java", hint: HINT }) }
}

pub(crate) fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
