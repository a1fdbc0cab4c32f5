//! Bugs that are planted to show that the checkers would find one like them.
//!
//! None of them is in the core: the world around it alters an event, an action or a message at
//! the edge, so that no build of the product can contain one. Each names the scenario in which it
//! is looked for, the rules that it may break, and within how many seeds it must be found.
//!
//! Left out: bugs that need the inside of an effect that the core carries out in one step, such
//! as a merge of vectors that forgets an entry; the oracle tests of the core look for those.

mod actors;
mod messages;

pub use actors::StaleActors;
pub use messages::Noted;

use super::checkers::{
    CONVERGED, DOT, EXCHANGED, HANDED_OFF, LOCAL, LOST, NAMED, NEVER_GONE, NO_EFFECT, ONE_HOLDER,
    ONE_RING, PANICKED, REPAIRED, RESTS, REVIVED, SIBLINGS, STRICT, TREES, TWICE, VALUE, ZONES,
};

/// A bug of the world, to show that the checkers would find one like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Planted {
    /// None.
    #[default]
    Nothing,
    /// A store answers some hints without storing them.
    DropHints,
    /// A machine goes on in its old incarnation after a stop.
    OldActor,
    /// A store acknowledges before it has synced.
    EagerAck,
    /// A store drops a key of which only tombstones are left.
    EarlyCollection,
    /// Some puts reach the node without their context.
    DropContext,
    /// A machine that lost its disk counts at once, before it is filled.
    CountBeforeFill,
    /// A store writes some records without changing its hash trees.
    SkipTree,
    /// Nobody compares hash trees.
    NoExchange,
    /// A node forgets what it has promised or accepted for a ring once it has said so.
    ForgetPromise,
    /// Machines say that they hold no hints of a partition although they do.
    CollectOverHints,
    /// Machines say that they hold nothing of partitions of others although they do.
    CollectOverLeavings,
    /// Replica writes carry an epoch that nobody has closed.
    CollectOverWrites,
    /// Nobody's clock is behind that of who asks.
    ExpireByOneClock,
    /// Owners mark and seal what they do not hold so.
    CollectUnmarked,
    /// What a module makes of siblings is written back under a dot of its own.
    FreshDot,
    /// A hint is deleted though it changed while it was sent.
    SettleChanged,
    /// A machine goes on with its actors after it lost its disk.
    ActorAfterLoss,
    /// A machine goes on with the actor of a key of a partition that left it and came back.
    ActorAfterReturn,
    /// A fallback goes on with the actor of a key after it delivered its hint.
    ActorOnFallback,
    /// Some deletes reach the node without their context.
    DropDeleteContext,
    /// A put gives a context back though siblings are left that its client has not seen.
    ContextWithSiblings,
    /// A repair sends an owner what that owner has already.
    WrongSide,
    /// Who takes a partition over believes that it holds all of it.
    ServeUncopied,
    /// An owner stores the write that it lends a dot for.
    StoreLent,
    /// What waited for a machine that lay still is carried out, though its client has given up.
    Expired,
    /// A disk says that it has saved what it has not.
    LoseSaves,
    /// A machine that is to stop does not wait until owners are owed nothing.
    StopInDebt,
    /// Two operators commit a ring without a majority.
    CommitTwice,
    /// A ring is made as if all machines stood in one zone.
    ForgetZones,
    /// Who compares a partition is told its own sums.
    EqualRoots,
    /// The keyspace of a name has the data of the one that had it before.
    SameKeyspace,
    /// A store that is full of hints says that it keeps one more.
    FullAck,
    /// A store takes a value that it holds already for a write that it has.
    UniteEqual,
    /// A store that meets damage goes on as if its hash trees were right.
    PassOverDamage,
    /// A copy of a directory goes on in the incarnation that it was copied in.
    CopiedIncarnation,
    /// A member serves who asks for a node's place though the one that it serves lives.
    TakeSecondHolder,
    /// A member serves a process again that it has left for another one.
    KeepOldHolder,
    /// A retry reaches the node without its name.
    DropName,
    /// A get that wants owners of its region takes one of any region.
    FarCounts,
    /// A listing is answered by one owner whatever `r` is.
    ListFromOne,
    /// Who is to hold a keyspace because its n changes believes that it does already.
    ResizeUncopied,
    /// Who tells of a change of n says that all members are through with its stage.
    ResizeAtOnce,
}

/// A bug and how it is found.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// What is wrong, in words.
    pub name: &'static str,
    /// How the world plants it.
    pub planted: Planted,
    /// Where it is looked for.
    pub scenario: &'static str,
    /// Within the first so many seeds it must be found.
    pub seeds: u64,
    /// Rules that it may break.
    pub rules: &'static [&'static str],
}

const fn bug(
    name: &'static str,
    planted: Planted,
    (scenario, seeds): (&'static str, u64),
    rules: &'static [&'static str],
) -> Bug {
    Bug { name, planted, scenario, seeds, rules }
}

/// All bugs.
pub const BUGS: &[Bug] = &[
    bug("forget a hint", Planted::DropHints, ("partitions", 20), &[HANDED_OFF]),
    bug(
        "delete a hint that changed while it was sent",
        Planted::SettleChanged,
        ("one way", 200),
        &[HANDED_OFF],
    ),
    bug("go on in the old life after a crash", Planted::OldActor, ("buffered", 40), &[DOT]),
    bug(
        "go on in the old life on a restored copy",
        Planted::OldActor,
        ("restored copy", 20),
        &[DOT],
    ),
    bug(
        "reuse an actor after disk loss",
        Planted::ActorAfterLoss,
        ("lost disks", 20),
        &[DOT, PANICKED],
    ),
    bug(
        "reuse an actor after a partition came back",
        Planted::ActorAfterReturn,
        ("ring changes", 100),
        &[DOT, PANICKED],
    ),
    bug("reuse an actor on a fallback", Planted::ActorOnFallback, ("partitions", 100), &[DOT]),
    bug("acknowledge before the sync", Planted::EagerAck, ("one", 20), &[LOST]),
    bug("collect a tombstone too early", Planted::EarlyCollection, ("one", 20), &[REVIVED]),
    bug(
        "collect while a hint holds the value",
        Planted::CollectOverHints,
        ("partitions", 20),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "collect while an ex-owner holds the value",
        Planted::CollectOverLeavings,
        ("ring changes", 200),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "collect while a replica write is on its way",
        Planted::CollectOverWrites,
        ("late", 40),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "collect what an owner does not hold so",
        Planted::CollectUnmarked,
        ("crashes", 100),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "let go of what has expired by one clock",
        Planted::ExpireByOneClock,
        ("restarts", 40),
        &[LOST, STRICT, CONVERGED, EXCHANGED],
    ),
    bug(
        "serve a partition before it was copied",
        Planted::ServeUncopied,
        ("ring changes", 100),
        &[LOST, STRICT],
    ),
    bug("drop the context of a put", Planted::DropContext, ("calm", 20), &[SIBLINGS]),
    bug(
        "drop the context of a delete",
        Planted::DropDeleteContext,
        ("calm", 20),
        &[SIBLINGS, REVIVED],
    ),
    bug(
        "return a context from a put with siblings left",
        Planted::ContextWithSiblings,
        ("calm", 20),
        &[LOST, STRICT],
    ),
    bug(
        "repair with the wrong side",
        Planted::WrongSide,
        ("crashes", 40),
        &[CONVERGED, EXCHANGED, RESTS],
    ),
    bug("skip the mark in the hash tree", Planted::SkipTree, ("crashes", 20), &[TREES]),
    bug("compare no hash trees", Planted::NoExchange, ("crashes", 40), &[RESTS]),
    bug(
        "count a node before its fill",
        Planted::CountBeforeFill,
        ("lost disks", 200),
        &[STRICT, LOST],
    ),
    bug(
        "commit two rings of one version",
        Planted::ForgetPromise,
        ("ring changes", 40),
        &[ONE_RING],
    ),
    bug(
        "store what is lent",
        Planted::StoreLent,
        ("pauses", 40),
        &[SIBLINGS, REVIVED, TWICE, NO_EFFECT],
    ),
    bug("carry out what has expired", Planted::Expired, ("pauses", 40), &[NO_EFFECT]),
    bug(
        "count a node before its fill where w is n",
        Planted::CountBeforeFill,
        ("every owner", 40),
        &[STRICT, LOST],
    ),
    bug(
        "count a node before its fill among five owners",
        Planted::CountBeforeFill,
        ("five owners", 200),
        &[STRICT, LOST],
    ),
    bug(
        "say that a small file is saved",
        Planted::LoseSaves,
        ("bad files", 400),
        &[ONE_RING, LOST, REVIVED, SIBLINGS, STRICT, RESTS],
    ),
    bug("stop while owners are owed", Planted::StopInDebt, ("stops", 200), &[HANDED_OFF]),
    bug(
        "commit twice without a majority",
        Planted::CommitTwice,
        ("lost majority", 20),
        &[ONE_RING],
    ),
    bug("make a ring without the zones", Planted::ForgetZones, ("zones", 20), &[ZONES]),
    bug("repair with one's own sums", Planted::EqualRoots, ("repairs", 40), &[REPAIRED]),
    bug("show a deleted keyspace in the next", Planted::SameKeyspace, ("keyspaces", 20), &[VALUE]),
    bug(
        "write a fold under a dot of its own once the module is active",
        Planted::FreshDot,
        ("modules", 100),
        &[REVIVED, SIBLINGS],
    ),
    bug(
        "take equal values for one write",
        Planted::UniteEqual,
        ("payloads", 20),
        &[LOST, STRICT, SIBLINGS],
    ),
    bug(
        "pass over damage in a transfer",
        Planted::PassOverDamage,
        ("rot in new rings", 100),
        &[RESTS],
    ),
    bug(
        "believe that the old owners of a keyspace with another n are read",
        Planted::ResizeUncopied,
        ("resized", 200),
        &[LOST, STRICT],
    ),
    bug(
        "change n without waiting for all members",
        Planted::ResizeAtOnce,
        ("resized", 200),
        &[LOST, STRICT],
    ),
    bug("count an owner of another region", Planted::FarCounts, ("regions", 20), &[LOCAL]),
    bug("list from one owner", Planted::ListFromOne, ("partitions", 20), &[STRICT, LOST]),
    bug("drop the name of a retry", Planted::DropName, ("named", 20), &[NAMED, SIBLINGS]),
    bug(
        "go on in the incarnation of the original on a copy",
        Planted::CopiedIncarnation,
        ("copies", 20),
        &[DOT, PANICKED],
    ),
    bug(
        "serve a second holder while the first one lives",
        Planted::TakeSecondHolder,
        ("copied cluster", 20),
        &[NEVER_GONE],
    ),
    bug(
        "serve the old holder again after the new one",
        Planted::KeepOldHolder,
        ("copies", 100),
        &[ONE_HOLDER],
    ),
    bug("acknowledge a hint without room", Planted::FullAck, ("full", 100), &[LOST]),
    bug("write a fold under a dot of its own", Planted::FreshDot, ("fold race", 100), &[REVIVED]),
];
