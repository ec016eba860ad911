//! Messages of a mailbox, one by one: looked at, removed and moved. The server that leads is asked, so what was sent or acknowledged
//! before is known.
//!
//! A message is moved by sending it, with an id that is made of its place, and then removing it: whatever fails between the two, it
//! is not lost, and if it is moved again the servers keep it once.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Hosts;
use super::api::{self, Refused, code};
use super::lane::{Lane, is_question, of_subject};
use super::names::of_digits;
use crate::engine::{About, Answer, Ask, Asked, Event, Path};
use crate::journal::record::Reason;
use crate::mailbox::{Purge, Tag};
use crate::op::{Caller, Error, Timestamp};

/// Numbers that are missing between the first and the last message, of which one answer of a server has all.
const MOST_GAPS: u64 = 1_000;

/// How many messages are looked at before it is asked for more.
const PAGE: usize = 500;

/// First and longest time between two looks for a message that is not there yet.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Who sent a message that has no word about it: nobody.
const UNKNOWN: Caller = Caller { uid: 65534, gid: 65534, pid: 0 };

/// Who has sent a message: uid, gid and pid.
pub(super) const SENDER: &str = "Ipcfs-Sender";

/// Its tag, as hexadecimal digits.
pub(super) const TAG: &str = "Ipcfs-Tag";

/// Why it is a dead letter.
pub(super) const REASON: &str = "Ipcfs-Reason";

/// By which the servers know what they have already.
pub(super) const ID: &str = "Nats-Msg-Id";

/// A message, as a server has it.
pub(super) struct Found {
    number: u64,
    pub(super) priority: u16,
    headers: String,
    pub(super) body: Bytes,
    sent: Timestamp,
    /// It is a question, and so none of the messages that a user sees.
    asks: bool,
}

impl Found {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// What it keeps wherever it goes.
    pub(super) fn copy_to(&self, headers: &mut HeaderMap) {
        for name in [SENDER, TAG] {
            if let Some(value) = self.header(name) {
                headers.insert(name, value);
            }
        }
    }

    fn answer(&self) -> Answer {
        let about = about(self.number, self.priority, self.sent, |name| self.header(name));
        Answer::Message(about, Arc::from(&self.body[..]))
    }
}

impl Hosts {
    /// Answers, unless the call has `left`.
    pub(super) async fn answer(self: Rc<Self>, ask: Ask, left: Option<oneshot::Receiver<()>>) {
        let Ask { mailbox, path, wait, what } = ask;
        let answer = match (left, what) {
            (Some(left), Asked::Next { wait: waits }) => {
                let next = tokio::select! {
                    next = self.next(&path, waits) => next,
                    _ = left => Err(Error::Interrupted),
                };
                self.waits.borrow_mut().remove(&(mailbox, wait));
                next
            }
            (_, what) => self.find_out(&path, what).await,
        };
        self.emit(Event::Answered(mailbox, wait, answer));
    }

    async fn find_out(&self, path: &Path, what: Asked) -> Result<Answer, Error> {
        // Locks of the kernel's wait for the answer, so that it comes soon.
        let id = timeout(api::TIMEOUT, self.id(path)).await.unwrap_or(Err(Error::Unreachable))?;
        match what {
            Asked::List { after, most } => {
                self.list_messages(&id, after, most).await.map_err(|why| error_of(&why))
            }
            Asked::Look(number) => Ok(self.find_message(&id, number).await?.answer()),
            Asked::Next { .. } => {
                self.look_ahead(path, &id).await.map_err(|why| error_of(&why))?.ok_or(Error::WouldWait)
            }
            Asked::Remove(number) => self.discard(&id, number).await.map_err(|why| error_of(&why)),
            Asked::Move(number, to) => self.move_message(&id, number, &to).await,
            Asked::Purge(what) => {
                self.purge(&id, &what).await.map(Answer::Removed).map_err(|why| error_of(&why))
            }
        }
    }

    async fn list(&self, id: &str, after: u64, most: usize) -> Result<Answer, Refused> {
        let what = format!("STREAM.INFO.{}", self.stream(id));
        let info = api::call(&self.client, &what, &Value::Null).await?;
        let number = |info: &Value, name: &str| info["state"][name].as_u64().unwrap_or_default();
        let last = number(&info, "last_seq");
        let gaps = number(&info, "num_deleted");
        if gaps > MOST_GAPS {
            return self.walk(id, after, most).await.map(|numbers| Answer::List { numbers, last });
        }
        let info = if gaps == 0 {
            info
        } else {
            api::call(&self.client, &what, &json!({ "deleted_details": true })).await?
        };
        if number(&info, "messages") == 0 {
            return Ok(Answer::List { numbers: Vec::new(), last });
        }
        let gone = info["state"]["deleted"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        let gone: BTreeSet<u64> = gone.collect();
        let all = number(&info, "first_seq").max(after + 1)..=number(&info, "last_seq");
        let numbers = all.filter(|number| !gone.contains(number)).take(most).collect();
        Ok(Answer::List { numbers, last })
    }

    /// The same, without questions.
    async fn list_messages(&self, id: &str, mut after: u64, most: usize) -> Result<Answer, Refused> {
        let subject = self.question_lane(id).subject;
        loop {
            let listed = self.list(id, after, most).await?;
            let Answer::List { mut numbers, last } = listed else { return Ok(listed) };
            let Some(end) = numbers.last().copied() else { return Ok(Answer::List { numbers, last }) };
            let mut questions = BTreeSet::new();
            let mut next = after + 1;
            while next <= end {
                match self.get(id, &json!({ "seq": next, "next_by_subj": subject })).await {
                    Ok(Found { number, .. }) => {
                        questions.insert(number);
                        next = number + 1;
                    }
                    Err(Refused::Server(code::NO_MESSAGE, _)) => break,
                    Err(why) => return Err(why),
                }
            }
            numbers.retain(|number| !questions.contains(number));
            if !numbers.is_empty() {
                return Ok(Answer::List { numbers, last });
            }
            after = end;
        }
    }

    /// From one message to the next: many are missing between them.
    async fn walk(&self, id: &str, mut after: u64, most: usize) -> Result<Vec<u64>, Refused> {
        let what = format!("STREAM.MSG.GET.{}", self.stream(id));
        let mut numbers = Vec::new();
        while numbers.len() < most {
            let next = json!({ "seq": after + 1, "next_by_subj": ">" });
            after = match api::call(&self.client, &what, &next).await {
                Ok(found) => found["message"]["seq"].as_u64().ok_or(Refused::Silent)?,
                Err(Refused::Server(code::NO_MESSAGE, _)) => break,
                Err(why) => return Err(why),
            };
            numbers.push(after);
        }
        Ok(numbers)
    }

    /// The message that is looked at before it is received. Waits for one.
    async fn next(&self, path: &Path, waits: bool) -> Result<Answer, Error> {
        let mut pause = LOOKS.0;
        loop {
            if waits {
                self.connected().await;
            }
            match self.find_out(path, Asked::Next { wait: waits }).await {
                Err(Error::WouldWait | Error::Unreachable) if waits => {}
                Err(Error::Unreachable) => return Err(Error::WouldWait),
                other => return other,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// The oldest message of the highest priority that no reader has had. If there is none, the oldest: a reader has it in hand, or
    /// has given it back.
    async fn look_ahead(&self, path: &Path, id: &str) -> Result<Option<Answer>, Refused> {
        let priorities = self.priorities(path);
        let lanes: Vec<Lane> =
            priorities.into_iter().chain([0]).map(|priority| self.lane(id, priority)).collect();
        let mut places = Vec::new();
        for lane in &lanes {
            let what = format!("CONSUMER.INFO.{}.{}", self.stream(id), lane.consumer);
            let info = api::call(&self.client, &what, &Value::Null).await?;
            let had = info["delivered"]["stream_seq"].as_u64().unwrap_or_default();
            places.push((lane, if info["num_ack_pending"].as_u64() == Some(0) { 0 } else { had }));
        }
        let again: Vec<_> = places.iter().filter(|(_, had)| *had > 0).map(|(lane, _)| (*lane, 0)).collect();
        for (lane, after) in places.into_iter().chain(again) {
            let next = json!({ "seq": after + 1, "next_by_subj": lane.subject });
            match self.get(id, &next).await {
                Err(Refused::Server(code::NO_MESSAGE, _)) => {}
                found => return found.map(|found| Some(found.answer())),
            }
        }
        Ok(None)
    }

    /// The message with this number.
    pub(super) async fn find(&self, id: &str, number: u64) -> Result<Found, Refused> {
        self.get(id, &json!({ "seq": number })).await
    }

    /// The same, unless it is a question.
    async fn find_message(&self, id: &str, number: u64) -> Result<Found, Error> {
        let found = self.find(id, number).await.map_err(|why| error_of(&why))?;
        if found.asks { Err(Error::NotFound) } else { Ok(found) }
    }

    async fn get(&self, id: &str, which: &Value) -> Result<Found, Refused> {
        let what = format!("STREAM.MSG.GET.{}", self.stream(id));
        let found = api::call(&self.client, &what, which).await?;
        let text = |field: &str| found["message"][field].as_str().unwrap_or_default();
        // A message that is not understood must not be moved as an empty one.
        let decoded = |field: &str| STANDARD.decode(text(field)).map_err(|_| Refused::Silent);
        let sent = humantime::parse_rfc3339(text("time")).ok();
        let sent = sent.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Found {
            number: found["message"]["seq"].as_u64().ok_or(Refused::Silent)?,
            priority: of_subject(text("subject")),
            headers: String::from_utf8_lossy(&decoded("hdrs")?).into_owned(),
            body: Bytes::from(decoded("data")?),
            sent: Timestamp(sent.map_or(0, |sent| sent.as_nanos() as u64)),
            asks: is_question(text("subject")),
        })
    }

    pub(super) async fn discard(&self, id: &str, number: u64) -> Result<Answer, Refused> {
        let what = format!("STREAM.MSG.DELETE.{}", self.stream(id));
        // A server need not write over it.
        let argument = json!({ "seq": number, "no_erase": true });
        match api::call(&self.client, &what, &argument).await {
            // It says so of a number that it has not given out yet.
            Err(Refused::Server(code::NOT_DELETED, why)) => {
                self.find(id, number).await?;
                Err(Refused::Server(code::NOT_DELETED, why))
            }
            other => other.map(|_| Answer::Done),
        }
    }

    async fn purge(&self, id: &str, what: &Purge) -> Result<u64, Refused> {
        if *what == Purge::All {
            let what = format!("STREAM.PURGE.{}", self.stream(id));
            let mut purged = 0;
            for subject in self.subjects(id) {
                let done = api::call(&self.client, &what, &json!({ "filter": subject })).await?;
                purged += done["purged"].as_u64().unwrap_or_default();
            }
            return Ok(purged);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let (mut after, mut removed, mut end) = (0, 0, None);
        loop {
            let Answer::List { numbers, last } = self.list(id, after, PAGE).await? else { break };
            // What is sent from now on stays.
            let end = *end.get_or_insert(last);
            match numbers.last() {
                Some(last) if after < end => after = *last,
                _ => break,
            }
            for number in numbers.into_iter().filter(|number| *number <= end) {
                let gone =
                    |why: &Refused| matches!(why, Refused::Server(code::NO_MESSAGE | code::NO_SEQUENCE, _));
                let found = match self.find(id, number).await {
                    Err(why) if gone(&why) => continue,
                    found => found?,
                };
                let about = about(number, 0, found.sent, |name| found.header(name));
                let matches = !found.asks
                    && match what {
                        Purge::All => true,
                        Purge::Tag(tag) => about.tag.as_ref() == Some(tag),
                        Purge::From(uid) => about.sender.uid == *uid,
                        Purge::Older(age) => about.sent.0 <= now.saturating_sub(*age),
                    };
                if matches {
                    match self.discard(id, number).await {
                        Err(why) if gone(&why) => {}
                        done => removed += done.map(|_| 1)?,
                    }
                }
            }
        }
        Ok(removed)
    }

    async fn move_message(&self, id: &str, number: u64, to_path: &Path) -> Result<Answer, Error> {
        let found = self.find_message(id, number).await?;
        let limits = self.described(to_path).ok_or(Error::NotFound)?.limits;
        if found.body.len() > limits.msgsize as usize {
            return Err(Error::TooLong);
        }
        let to = timeout(api::TIMEOUT, self.id(to_path)).await.unwrap_or(Err(Error::Unreachable))?;
        let mut headers = HeaderMap::new();
        headers.insert(ID, place_id(id, number));
        found.copy_to(&mut headers);
        let subject = timeout(api::TIMEOUT, self.subject_if(to_path, &to, found.priority)).await;
        let subject = subject.map_err(|_| Error::Unreachable)?;
        api::ask(&self.client, subject, Some(headers), found.body).await.map_err(|why| error_of(&why))?;
        match self.discard(id, number).await {
            // Somebody has received or removed it meanwhile.
            Err(Refused::Server(code::NO_SEQUENCE | code::NO_MESSAGE, _)) => Ok(Answer::Done),
            other => other.map_err(|why| error_of(&why)),
        }
    }
}

/// An id that a message has wherever it is sent from this place, so that it is there once.
pub(super) fn place_id(id: &str, number: u64) -> String {
    format!("{id}.{number}")
}

/// What its headers say of a message.
pub(super) fn about<'a>(
    number: u64,
    priority: u16,
    sent: Timestamp,
    header: impl Fn(&str) -> Option<&'a str>,
) -> About {
    let sender = header(SENDER).and_then(|text| {
        let mut numbers = text.split(' ').map(str::parse);
        let mut number = || numbers.next()?.ok();
        Some(Caller { uid: number()?, gid: number()?, pid: number()? })
    });
    let reasons = [Reason::Deliveries, Reason::Rejected];
    let reason = header(REASON).and_then(|word| reasons.into_iter().find(|reason| reason.word() == word));
    let tag = header(TAG).and_then(of_digits).map(Tag::from);
    About { number, sent, sender: sender.unwrap_or(UNKNOWN), priority, tag, reason }
}

fn error_of(why: &Refused) -> Error {
    match why {
        Refused::Server(code::NO_MESSAGE | code::NO_SEQUENCE | code::NO_STREAM, _) => Error::NotFound,
        Refused::Server(code::STORE_FAILED, _) => Error::NoSpace,
        Refused::Server(code, _) if code::RESOURCES.contains(code) => Error::NoSpace,
        Refused::Server(code::TOO_LONG, _) => Error::TooLong,
        Refused::Silent | Refused::Nobody | Refused::Server(code::NOT_AVAILABLE, _) => Error::Unreachable,
        Refused::Server(..) => Error::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_who_sent_a_message_and_why_it_died() {
        let found = Found {
            number: 7,
            priority: 0,
            headers: String::from(
                "NATS/1.0\r\nIpcfs-Sender: 1 2 3\r\nIpcfs-Tag: 6120ff\r\nIpcfs-Reason: rejected\r\n\r\n",
            ),
            body: Bytes::new(),
            sent: Timestamp(0),
            asks: false,
        };
        let known = about(7, 3, Timestamp(9), |name| found.header(name));
        let sender = Caller { uid: 1, gid: 2, pid: 3 };
        let (tag, reason) = (Some(Tag::from(&b"a \xff"[..])), Some(Reason::Rejected));
        assert_eq!(known, About { number: 7, sent: Timestamp(9), sender, priority: 3, tag, reason });
        // Another program has sent it.
        for text in ["root", "0 0", "-1 0 0", ""] {
            assert_eq!(about(7, 0, Timestamp(9), |_| Some(text)).sender, UNKNOWN, "{text}");
        }
        assert_eq!(about(7, 0, Timestamp(9), |_| None).sender, UNKNOWN);
    }
}
