//! The network: namespaces that `tests/faults/run` made, and what is done to it.
//!
//! Faults are rules of nftables on what comes in at a node, so that a cut can be one-way. The
//! addresses are the same in every run: they mean nothing outside of its namespaces.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// The addresses and names of one run.
#[derive(Debug, Clone)]
pub struct Lab {
    /// What the names of its namespaces begin with.
    pub prefix: String,
    /// How many nodes there are, numbered from 1.
    pub nodes: usize,
}

impl Lab {
    /// Where node `number` is.
    pub fn address(&self, number: usize) -> String {
        format!("10.77.0.{number}")
    }

    /// A command that runs in the namespace of node `number`.
    pub fn at(&self, number: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}{number}", self.prefix), program]);
        command
    }

    async fn rule(&self, number: usize, words: &str) -> Result<()> {
        let mut command = self.at(number, "nft");
        run(command.args(["add", "rule", "inet", "fault", "in"]).args(words.split(' '))).await
    }

    /// Node `deaf` hears nothing of node `mute` any more.
    pub async fn cut(&self, deaf: usize, mute: usize) -> Result<()> {
        self.rule(deaf, &format!("ip saddr {} drop", self.address(mute))).await
    }

    /// Nothing goes between the nodes of `left` and those of `right`.
    pub async fn part(&self, left: &[usize], right: &[usize]) -> Result<()> {
        for (&a, &b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
            self.cut(a, b).await?;
            self.cut(b, a).await?;
        }
        Ok(())
    }

    /// Every node drops so many of a hundred packets that come in, clients' too.
    pub async fn lose(&self, percent: u32) -> Result<()> {
        for number in 1..=self.nodes {
            self.rule(number, &format!("numgen random mod 100 < {percent} drop")).await?;
        }
        Ok(())
    }

    /// The network is whole again.
    pub async fn heal(&self) -> Result<()> {
        for number in 1..=self.nodes {
            run(self.at(number, "nft").args(["flush", "chain", "inet", "fault", "in"])).await?;
        }
        Ok(())
    }
}

/// Runs a command that must succeed.
pub async fn run(command: &mut Command) -> Result<()> {
    let words = format!("{:?}", command.as_std());
    let output = command.output().await.with_context(|| format!("{words} does not start"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words}: {}: {told}", output.status);
    Ok(())
}
