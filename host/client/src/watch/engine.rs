//! The task of a watch: follows the members, and asks what is there of what they tell.
//!
//! Answers of members are worked off one after the other, each with its gets side by side, so a key is
//! never told by two at once. A member's position moves on once all of an answer is told; what cannot
//! be read yet, because only a node has it that is away by now, is asked for again and again beside the
//! rest, and holds that member's position and no other's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use stator_core::causality::VersionVector;
use stator_proto::v1;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::follow::{Follower, Heard, What};
use super::known::Known;
use super::read::{self, Ask, Gets, Got, read, vector};
use super::token::Token;
use super::{Changed, Event, From, Keys, Told, Watching};
use crate::client::{Client, kv};
use crate::error::Error;
use crate::pages::Listing;
use crate::retry::{Safety, is_worth_it};

/// How long members that do not answer are waited for at the beginning.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// How often members are looked at, and at most what could not be read is asked for again.
const TICK: Duration = Duration::from_secs(1);
/// Answers of members that wait.
const HEARD_MAX: usize = 4;
/// Keys that could not be read; beyond it members are not listened to until some are.
const LATER_MAX: usize = 10_000;
/// How many of them of a member are asked for at a time.
const RETRIED_MAX: usize = 256;
/// In the place of a position: all that a node holds.
const START: &str = "start";

/// What is left of the watch when it cannot go on.
enum End {
    /// Nobody reads it any more.
    Unread,
    Failed(Error),
}

impl<E: Into<Error>> std::convert::From<E> for End {
    fn from(error: E) -> Self {
        End::Failed(error.into())
    }
}

/// A member.
struct Member {
    address: String,
    run: u64,
    _follower: Follower,
    /// How far its stream was heard. What of that is told stands in the token.
    reached: String,
    /// What is not read yet, as it was told last.
    later: BTreeMap<Bytes, v1::WatchedKey>,
    is_away: bool,
}

pub(super) struct Engine {
    client: Client,
    watching: Arc<Watching>,
    members: BTreeMap<String, Member>,
    runs: u64,
    hear: mpsc::Sender<Heard>,
    heard: mpsc::Receiver<Heard>,
    tell: mpsc::Sender<Result<Told, Error>>,
    /// Kept back, so that the last event of an answer has the token behind the answer.
    held: Option<Event>,
    token: Token,
    known: Known,
    listing: Option<Listing>,
    retrying: Option<Gets>,
    begins_until: Option<Instant>,
}

impl Engine {
    pub(super) fn new(
        (client, watching): (Client, Watching),
        token: Token,
        tell: mpsc::Sender<Result<Told, Error>>,
    ) -> Self {
        let (hear, heard) = mpsc::channel(HEARD_MAX);
        Engine {
            client,
            watching: Arc::new(watching),
            members: BTreeMap::new(),
            runs: 0,
            hear,
            heard,
            tell,
            held: None,
            token,
            known: Known::default(),
            listing: None,
            retrying: None,
            begins_until: Some(Instant::now() + BEGIN_WITHIN),
        }
    }

    pub(super) async fn run(mut self) {
        if let Err(End::Failed(error)) = self.work().await {
            // Who has gone needs no error.
            let _ = self.tell.send(Err(error)).await;
        }
    }

    async fn work(&mut self) -> Result<(), End> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Some(page) = self.token.listing.clone() {
            self.listing = Some(self.list_from(page));
        }
        loop {
            let later: usize = self.members.values().map(|member| member.later.len()).sum();
            tokio::select! {
                Some(heard) = self.heard.recv(), if later < LATER_MAX => self.hear(heard).await?,
                _ = tick.tick() => self.tick().await?,
                page = next_page(self.listing.as_mut()) => self.page(page).await?,
                got = next_got(self.retrying.as_mut()) => match got {
                    Some(got) => self.got(got).await?,
                    None => self.retrying = None,
                },
                () = self.tell.closed() => return Err(End::Unread),
            }
            self.settle().await?;
        }
    }

    /// Follows who is a member now, and tries again what could not be read.
    async fn tick(&mut self) -> Result<(), End> {
        let now = self.client.routes().members();
        if !now.is_empty() {
            let is_member = |node: &String| now.iter().any(|(found, _)| found == node);
            self.members.retain(|node, _| is_member(node));
            self.token.positions.retain(|node, _| is_member(node));
        }
        for (node, address) in now {
            match self.members.get(&node) {
                Some(member) if member.address == address => {}
                Some(member) => {
                    let reached = member.reached.clone();
                    self.follow(node, address, reached);
                }
                None => {
                    let position = self.first_position(&node);
                    self.follow(node, address, position);
                }
            }
        }
        self.retry()?;
        self.begin().await
    }

    /// Where the stream of a member begins that was not followed yet.
    fn first_position(&self, node: &str) -> String {
        let is_new = self.begins_until.is_some() && !matches!(self.watching.from, From::Token(_));
        match self.token.positions.get(node) {
            Some(position) => position.clone(),
            None if is_new => String::new(),
            // What it has taken since it came nobody else may have told.
            None => START.to_owned(),
        }
    }

    fn follow(&mut self, node: String, address: String, position: String) {
        self.runs += 1;
        let (key, prefix) = match &self.watching.keys {
            Keys::One(key) => (key.clone(), Bytes::new()),
            Keys::Prefix(prefix) => (Bytes::new(), prefix.clone()),
        };
        let keyspace = self.watching.keyspace.clone();
        let request = v1::WatchRequest { keyspace, key, prefix, position: position.clone() };
        let way = (self.client.routes().clone(), address.clone());
        let follower = Follower::of(way, request, self.hear.clone(), (node.clone(), self.runs));
        let former = self.members.remove(&node);
        let member = Member {
            address,
            run: self.runs,
            _follower: follower,
            reached: position,
            is_away: former.as_ref().is_some_and(|former| former.is_away),
            later: former.map(|former| former.later).unwrap_or_default(),
        };
        self.members.insert(node, member);
    }

    /// Tells that it begins, once all have answered or time is up.
    async fn begin(&mut self) -> Result<(), End> {
        let Some(until) = self.begins_until else { return Ok(()) };
        let silent = self.members.iter().filter(|(_, member)| member.reached.is_empty());
        let silent: Vec<_> =
            silent.map(|(node, member)| (node.clone(), member.address.clone())).collect();
        if self.members.is_empty() || !silent.is_empty() && Instant::now() < until {
            return Ok(());
        }
        self.begins_until = None;
        for (node, address) in silent {
            self.follow(node, address, START.to_owned());
        }
        self.emit(Event::Begun).await?;
        match self.watching.from {
            From::Start => self.list().await,
            From::Now | From::Token(_) => Ok(()),
        }
    }

    async fn hear(&mut self, Heard { node, run, what }: Heard) -> Result<(), End> {
        let Some(member) = self.members.get_mut(&node).filter(|member| member.run == run) else {
            return Ok(());
        };
        let is_away = !matches!(what, What::Told(_));
        let has_changed = std::mem::replace(&mut member.is_away, is_away) != is_away;
        let answer = match what {
            What::Failed(error) => return Err(error.into()),
            What::Away(why) if has_changed => return self.emit(Event::Away { node, why }).await,
            What::Away(_) => return Ok(()),
            What::Told(answer) => answer,
        };
        member.reached = answer.position;
        if answer.gap {
            // A listing tells all of them.
            member.later.clear();
        }
        if has_changed {
            self.emit(Event::Back { node: node.clone() }).await?;
        }
        self.client.routes().heard(answer.ring_version);
        if answer.gap {
            self.list().await?;
        }
        self.read_all(&node, answer.changes).await?;
        self.begin().await
    }

    /// Asks what is there now of what `node` told, and tells what is new.
    async fn read_all(&mut self, node: &str, changes: Vec<v1::WatchedKey>) -> Result<(), End> {
        let mut gets = self.gets(node, changes)?;
        while let Some(got) = gets.next().await {
            self.got(got).await?;
        }
        Ok(())
    }

    /// Gets of what is not known yet.
    fn gets(&mut self, node: &str, changes: Vec<v1::WatchedKey>) -> Result<Gets, Error> {
        let mut asks = Vec::new();
        for change in changes {
            let told = vector(&change.seen)?;
            if self.known.was_told(&change.key, &told, &change.hash) {
                self.later(node, |later| drop(later.remove(&change.key)));
                continue;
            }
            self.later(node, |later| drop(later.insert(change.key.clone(), change.clone())));
            let known = self.known.seen(&change.key).cloned().unwrap_or_default();
            asks.push(Ask { node: node.to_owned(), change, told, known });
        }
        Ok(read::gets(&self.client, &self.watching, asks))
    }

    async fn got(&mut self, Got { node, change, told, answer }: Got) -> Result<(), End> {
        let key = change.key.clone();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if is_worth_it(&error, Safety::Repeatable) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Unless the member has told it again since.
        self.later(&node, |later| {
            if later.get(&key) == Some(&change) {
                later.remove(&key);
            }
        });
        let seen = vector(&answer.seen)?;
        match self.known.is_new(&key, (seen, &answer), (&told, change.hash)) {
            true => self.emit(Event::Changed(Changed { key, answer })).await,
            false => Ok(()),
        }
    }

    /// Tries again what could not be read, beside everything else.
    fn retry(&mut self) -> Result<(), Error> {
        if self.retrying.is_some() {
            return Ok(());
        }
        let left = self.members.iter().filter(|(_, member)| !member.later.is_empty());
        let left = left.map(|(node, member)| {
            (node.clone(), member.later.values().take(RETRIED_MAX).cloned().collect())
        });
        let mut all: Gets = Box::pin(futures::stream::empty());
        for (node, changes) in left.collect::<Vec<(String, Vec<v1::WatchedKey>)>>() {
            all = Box::pin(all.chain(self.gets(&node, changes)?));
        }
        self.retrying = Some(all);
        Ok(())
    }

    fn later(&mut self, node: &str, change: impl FnOnce(&mut BTreeMap<Bytes, v1::WatchedKey>)) {
        if let Some(member) = self.members.get_mut(node) {
            change(&mut member.later);
        }
    }

    /// Lists all keys, from the first.
    async fn list(&mut self) -> Result<(), End> {
        self.emit(Event::Listing).await?;
        let Keys::One(key) = self.watching.keys.clone() else {
            self.token.listing = Some(String::new());
            self.listing = Some(self.list_from(String::new()));
            return Ok(());
        };
        // One that cannot be read now is asked for until it can.
        self.listing = None;
        let answer = loop {
            let none = VersionVector::new();
            match read(&self.client, &self.watching, &key, (&none, &none)).await {
                Err(error) if is_worth_it(&error, Safety::Repeatable) => {
                    tokio::time::sleep(TICK).await;
                }
                answer => break answer?,
            }
        };
        self.listed(key, answer).await?;
        self.emit(Event::Listed).await
    }

    fn list_from(&self, page_token: String) -> Listing {
        let prefix = match &self.watching.keys {
            Keys::Prefix(prefix) => prefix.clone(),
            Keys::One(_) => Bytes::new(),
        };
        let request = v1::ListRequest {
            keyspace: self.watching.keyspace.clone(),
            prefix,
            view: self.watching.view().into(),
            page_token,
            tell_seen: true,
            ..Default::default()
        };
        Listing::new(self.client.routes().nodes.clone(), request, kv)
    }

    async fn page(&mut self, page: Result<Option<v1::ListResponse>, Error>) -> Result<(), End> {
        let page = match page {
            Ok(page) => page.unwrap_or_default(),
            Err(error) if is_worth_it(&error, Safety::Repeatable) => {
                let from = self.token.listing.clone().unwrap_or_default();
                self.listing = Some(self.list_from(from));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for listed in page.keys {
            let v1::ListedKey { key, versions, context, merge, seen } = listed;
            let answer = v1::GetResponse { versions, context, merge, seen, ..Default::default() };
            self.listed(key, answer).await?;
        }
        match page.page_token.is_empty() {
            false => self.token.listing = Some(page.page_token),
            true => {
                (self.listing, self.token.listing) = (None, None);
                self.emit(Event::Listed).await?;
            }
        }
        Ok(())
    }

    /// A key is there. It is told even if it was before: else it would count as gone.
    async fn listed(&mut self, key: Bytes, mut answer: v1::GetResponse) -> Result<(), End> {
        let mut seen = vector(&answer.seen)?;
        if let Some(known) = self.known.seen(&key).filter(|known| !seen.covers(known)) {
            // A page may be older than what was told since it was read.
            let known = known.clone();
            match read(&self.client, &self.watching, &key, (&seen, &known)).await {
                Ok(found) => (seen, answer) = (vector(&found.seen)?, found),
                // What was told stands; whoever lacks it tells it again when it has it.
                Err(error) if is_worth_it(&error, Safety::Repeatable) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.known.listed(&key, seen, &answer);
        self.emit(Event::Changed(Changed { key, answer })).await
    }

    /// Tells the event before this one.
    async fn emit(&mut self, event: Event) -> Result<(), End> {
        match self.held.replace(event) {
            Some(before) => self.send(before).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, event: Event) -> Result<(), End> {
        let told = Told { event: Some(event), token: self.token.clone() };
        self.tell.send(Ok(told)).await.map_err(|_| End::Unread)
    }

    /// All that was heard is told, or is to be read later.
    async fn settle(&mut self) -> Result<(), End> {
        let mut is_new = false;
        for (node, member) in &self.members {
            let is_told = member.later.is_empty() && !member.reached.is_empty();
            if is_told && self.token.positions.get(node) != Some(&member.reached) {
                self.token.positions.insert(node.clone(), member.reached.clone());
                is_new = true;
            }
        }
        match self.held.take() {
            Some(event) => self.send(event).await,
            None => {
                if is_new {
                    // Where there is no room, the next event has it.
                    let _ = self.tell.try_send(Ok(Told { event: None, token: self.token.clone() }));
                }
                Ok(())
            }
        }
    }
}

async fn next_got(gets: Option<&mut Gets>) -> Option<Got> {
    match gets {
        Some(gets) => gets.next().await,
        None => std::future::pending().await,
    }
}

async fn next_page(listing: Option<&mut Listing>) -> Result<Option<v1::ListResponse>, Error> {
    match listing {
        Some(listing) => listing.next().await,
        None => std::future::pending().await,
    }
}
