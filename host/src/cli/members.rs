//! Commands that ask every member of a cluster.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use stator_client::Admin;
use stator_proto::v1;
use tokio::time::Instant;

use super::failure::{Failure, Kind};
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

/// The members, and what each is if it answers.
pub(super) async fn statuses(
    session: &Session,
) -> Result<Vec<(v1::Member, Option<v1::NodeStatus>)>, Failure> {
    let asked = all(session).await?.into_iter().map(async |Asked { member, admin }| {
        let status = match admin {
            Some(admin) => admin.get_status(v1::GetStatusRequest {}).await.ok(),
            None => None,
        };
        (member, status)
    });
    Ok(join_all(asked).await)
}

/// The digits of an id, and of the shortest beginning of one that names a node.
const ID_DIGITS: usize = 16;
const ID_DIGITS_MIN: usize = 4;

/// The id of the member that `text` names: its id, the beginning of it, its peer address, or the
/// name of its machine in that. A whole id is taken as it is: the node says if there is none.
pub(super) async fn named(session: &Session, text: &str) -> Result<String, Failure> {
    if text.len() == ID_DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    let status = session.admin().await?.get_status(v1::GetStatusRequest {}).await?;
    choose(status.members.iter().filter_map(|view| view.member.as_ref()), text)
}

fn choose<'a>(
    members: impl Iterator<Item = &'a v1::Member>,
    text: &str,
) -> Result<String, Failure> {
    let is_begun = |id: &str| text.len() >= ID_DIGITS_MIN && id.starts_with(text);
    let is_of = |address: &str| {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let is_name = host.parse::<IpAddr>().is_err();
        address == text || host == text || is_name && host.split('.').next() == Some(text)
    };
    let is_meant = |member: &&v1::Member| is_begun(&member.node_id) || is_of(&member.peer_address);
    let found: Vec<_> = members.filter(is_meant).collect();
    let list = |member: &&v1::Member| format!("{} at {}", member.node_id, member.peer_address);
    match found.as_slice() {
        [member] => Ok(member.node_id.clone()),
        [] => Err(Failure::new(Kind::NotFound, format!("no node is called {text}")).hint(
            "give its id, at least four digits of it, its peer address, or the name of its machine; \
             `stator cluster status` shows them",
        )),
        several => Err(Failure::usage(format!("{} nodes are called {text}", several.len()))
            .hint(format!("give an id: {}", several.iter().map(list).collect::<Vec<_>>().join(", ")))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node_id: &str, peer_address: &str) -> v1::Member {
        let (node_id, peer_address) = (node_id.to_owned(), peer_address.to_owned());
        v1::Member { node_id, peer_address, ..Default::default() }
    }

    #[test]
    fn a_node_is_called_by_its_id_its_address_or_its_machine() {
        let members = [
            member("6b1f0c5d6f1c7f9b", "stator-0.stator.shop.svc:7403"),
            member("6b1f9999aaaabbbb", "stator-1.stator.shop.svc:7403"),
            member("0123456789abcdef", "127.0.0.1:7403"),
            member("fedcba9876543210", "127.0.0.1:7503"),
        ];
        let chosen =
            |text| choose(members.iter(), text).map_err(|failure| failure.message().to_owned());
        for (text, place) in [
            ("6b1f0", 0),
            ("stator-1", 1),
            ("stator-1.stator.shop.svc", 1),
            ("stator-0.stator.shop.svc:7403", 0),
            ("127.0.0.1:7503", 3),
            ("0123", 2),
        ] {
            assert_eq!(chosen(text).as_deref(), Ok(members[place].node_id.as_str()), "{text}");
        }
        for text in ["6b1f", "127.0.0.1", "127", "012", "stator", "", "shop"] {
            chosen(text).expect_err(text);
        }
    }
}
