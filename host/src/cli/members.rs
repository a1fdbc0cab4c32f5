//! Commands that ask every member of a cluster.

use std::time::Duration;

use futures::future::join_all;
use stator_client::Admin;
use stator_proto::v1;
use tokio::time::Instant;

use super::failure::Failure;
use super::output;
use super::session::Session;

/// How often members are asked whether they are there yet.
const POLL: Duration = Duration::from_millis(100);

/// A digest as people are shown it.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A member, and a client of it if it answers.
pub(super) struct Asked {
    pub(super) member: v1::Member,
    pub(super) admin: Option<Admin>,
}

/// The members of the cluster as the node at --admin knows them; that node alone without a cluster.
pub(super) async fn all(session: &Session) -> Result<Vec<Asked>, Failure> {
    let status = session.admin().await?.get_status(v1::GetStatusRequest {}).await?;
    let mut members: Vec<v1::Member> =
        status.members.iter().filter_map(|view| view.member.clone()).collect();
    if members.is_empty() {
        members.extend(status.node);
    }
    let asked = members.into_iter().map(async |member| {
        let admin = session.admin_of(&member.admin_address).await.ok();
        Asked { member, admin }
    });
    Ok(join_all(asked).await)
}

/// What the members have, each with who has it. Who has none to give is told of, and why.
pub(super) async fn gather<T>(
    session: &Session,
    what: &str,
    ask: impl AsyncFn(&Admin) -> Result<Vec<T>, Failure>,
) -> Result<Vec<(String, T)>, Failure> {
    let members = all(session).await?;
    let answers = join_all(members.iter().map(async |asked| match &asked.admin {
        Some(admin) => ask(admin).await.map_err(|failure| failure.message().to_owned()),
        None => Err("it does not answer".to_owned()),
    }));
    let mut all = Vec::new();
    for (asked, answer) in members.iter().zip(answers.await) {
        let node = &asked.member.node_id;
        match answer {
            Ok(answer) => all.extend(answer.into_iter().map(|item| (node.clone(), item))),
            Err(why) => output::say(format!("node {node}: its {what} are missing: {why}")),
        }
    }
    Ok(all)
}

/// All that a stream has.
pub(super) async fn drain<T>(mut stream: tonic::Streaming<T>) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    while let Some(item) = stream.message().await.map_err(stator_client::Error::from)? {
        all.push(item);
    }
    Ok(all)
}

/// Waits until every member that answers says so, as long as a request may take; without a word,
/// because those that are away hear of it when they are back.
pub(super) async fn settled(
    session: &Session,
    is_there: impl AsyncFn(&Admin) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let members = all(session).await?;
    let until = Instant::now() + session.timeout();
    loop {
        let answers = members.iter().map(async |asked| match &asked.admin {
            Some(admin) => is_there(admin).await.unwrap_or(false),
            None => true,
        });
        let is_over = Instant::now() >= until;
        if is_over || join_all(answers).await.into_iter().all(|is_there| is_there) {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until every member that answers `is_there`, as long as a request may take, and says how
/// many are. That some are not is told and is no failure: they will be, or are away.
pub(super) async fn until_all(
    session: &Session,
    what: &str,
    is_there: impl AsyncFn(&Admin) -> Result<bool, Failure>,
) -> Result<usize, Failure> {
    let members = all(session).await?;
    let until = Instant::now() + session.timeout();
    let mut told = None;
    loop {
        let answers = members.iter().map(async |asked| match &asked.admin {
            Some(admin) => is_there(admin).await.unwrap_or(false),
            None => false,
        });
        let answers = join_all(answers).await;
        let there = answers.iter().filter(|is_there| **is_there).count();
        let is_over = Instant::now() >= until;
        let waits = |(asked, is_there): (&Asked, &bool)| asked.admin.is_some() && !is_there;
        if is_over || !members.iter().zip(&answers).any(waits) {
            output::say(format!("{there} of {} nodes {what}", members.len()));
            let lacking = members.iter().zip(&answers).filter(|(_, is_there)| !**is_there);
            for (asked, _) in lacking {
                let why = if asked.admin.is_some() { "not yet" } else { "does not answer" };
                output::say(format!("node {}: {why}", asked.member.node_id));
            }
            return Ok(there);
        }
        if told != Some(there) {
            output::say(format!("{there} of {} nodes {what} …", members.len()));
            told = Some(there);
        }
        tokio::time::sleep(POLL).await;
    }
}
