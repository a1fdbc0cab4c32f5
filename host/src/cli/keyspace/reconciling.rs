//! What `stator keyspace create` and `update` are told of concurrent versions: a policy, a module,
//! or rules, of which the program makes a module.

use clap::{Args, ValueEnum};
use stator_proto::v1;

use crate::cli::failure::Failure;
use crate::cli::members::short;
use crate::cli::module::{resolve, rules};
use crate::cli::session::Session;

#[derive(Debug, Args)]
pub(super) struct Reconciling {
    /// What becomes of concurrent versions [default of a new keyspace: siblings]
    #[arg(long, value_enum)]
    reconcile: Option<Policy>,
    /// Merge concurrent versions with this module: its digest, the beginning of it, or its name
    #[arg(long, value_name = "MODULE", group = "merge")]
    module: Option<String>,
    /// Merge JSON at this path by this rule, such as /items=union: see `stator module rules --help`
    #[arg(long = "rule", value_name = "POINTER=RULE", group = "merge")]
    rules: Vec<String>,
    /// Store what the module makes of concurrent versions in their place; its laws are checked
    #[arg(long, requires = "merge", conflicts_with = "ancestor")]
    fold: bool,
    /// Keep with every version one of its past, so that the module is told a common ancestor
    #[arg(long, requires = "merge")]
    ancestor: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// Every reader gets all of them
    Siblings,
    /// The latest wins, the others are lost
    LastWriteWins,
    /// A merge module makes one of them (--module)
    Module,
    /// A rule for each path of a JSON document makes one of them (--rule)
    Json,
}

/// What is asked for; nothing if nothing was given.
pub(super) struct Asked {
    pub(super) reconcile: Option<v1::Reconcile>,
    /// Whether its module was pushed for it.
    is_pushed: bool,
}

impl Asked {
    /// Why the keyspace is not as it was asked for, and what was done nevertheless.
    pub(super) fn failed(&self, error: stator_client::Error) -> Failure {
        let failure = Failure::from(error);
        match &self.reconcile {
            Some(reconcile) if self.is_pushed => {
                let digest = short(&reconcile.module_digest);
                failure.hint(format!(
                    "the module of the rules was pushed and stays: `stator module delete {digest}` \
                     takes it away. Where signatures are demanded write it with `stator module \
                     rules`, push it with --sign, and name it with --module"
                ))
            }
            _ => failure,
        }
    }
}

impl Reconciling {
    /// What was given, taken together. Modules are looked up; that of rules is pushed.
    pub(super) async fn asked(self, session: &Session) -> Result<Asked, Failure> {
        let is_pushed = !self.rules.is_empty();
        let digest = match (self.reconcile, &self.module, is_pushed) {
            (None | Some(Policy::Module), Some(module), _) => {
                resolve(&session.admin().await?, module).await?
            }
            (Some(Policy::Module), None, false) => {
                return Err(Failure::usage("--reconcile module needs --module MODULE"));
            }
            (Some(_), Some(_), _) => {
                let message = "--module excludes --reconcile siblings, last-write-wins and json";
                return Err(Failure::usage(message));
            }
            (Some(Policy::Json), None, true) => {
                let rules = rules::read(&self.rules)?;
                if rules.use_ancestor() && !self.ancestor {
                    return Err(Failure::usage(
                        "a three-way rule needs --ancestor: without it no ancestor is kept, and \
                         only the rule behind three-way would count",
                    ));
                }
                rules::push(session, &rules).await?
            }
            (Some(Policy::Json), None, false) => {
                return Err(Failure::usage(
                    "--reconcile json needs a --rule POINTER=RULE for each path that concurrent \
                     writes change",
                )
                .hint(
                    "such as --rule /items=union; `stator module rules --help` lists the rules",
                ));
            }
            (_, None, true) => {
                return Err(Failure::usage("--rule needs --reconcile json"));
            }
            (Some(Policy::LastWriteWins), None, false) => {
                return Ok(plain(v1::ReconcilePolicy::LastWriteWins));
            }
            (Some(Policy::Siblings), None, false) => {
                return Ok(plain(v1::ReconcilePolicy::Siblings));
            }
            (None, None, false) => return Ok(Asked { reconcile: None, is_pushed }),
        };
        let policy = v1::ReconcilePolicy::Module.into();
        let Reconciling { fold, ancestor, .. } = self;
        let reconcile = v1::Reconcile { policy, module_digest: digest, fold, ancestor };
        Ok(Asked { reconcile: Some(reconcile), is_pushed })
    }
}

fn plain(policy: v1::ReconcilePolicy) -> Asked {
    let reconcile = v1::Reconcile { policy: policy.into(), ..Default::default() };
    Asked { reconcile: Some(reconcile), is_pushed: false }
}
