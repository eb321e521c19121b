//! The command line tools that come with Kafka's jars.

use std::process::Command;

use crate::{Lab, Result, jars, process, root};

impl Lab {
    /// Runs a Java class of Kafka's jars to its end and returns what it printed: `org.apache.kafka.tools.TopicCommand`,
    /// say, with `--bootstrap-server` and the [address](Lab::kafka_url). Every call costs a JVM: a second or two of a
    /// core.
    pub fn java_tool<'a>(&self, class: &str, args: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut command = Command::new(jars::java()?);
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp"]);
        command.arg(jars::fetch(&root())?.join("*")).arg(class).args(args);
        process::run(&mut command)
    }
}
