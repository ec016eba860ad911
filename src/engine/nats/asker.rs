//! Who has asked a question, as its headers say.

use async_nats::{HeaderMap, HeaderValue};

use super::ask::ID;

/// Which host asks.
pub(super) const ASKER: &str = "Ipcfs-Asker";

/// Who has asked a question in hand.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) host: String,
    /// The id of the question.
    pub(super) question: String,
}

impl Asker {
    /// Who has asked. `None`: the message is no question of a host.
    pub(super) fn of(headers: Option<&HeaderMap>) -> Option<Asker> {
        let header = |name: &str| headers?.get(name).map(HeaderValue::as_str);
        let (host, question) = (header(ASKER)?, header(ID)?);
        let is_word = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let are_words = is_word(host) && is_word(question);
        are_words.then(|| Asker { host: host.to_owned(), question: question.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_with_a_host_that_can_be_asked_has_an_asker() {
        let of = |host: &str, question: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ASKER, host);
            headers.insert(ID, question);
            Asker::of(Some(&headers)).is_some()
        };
        assert!(of("0af-", "0af-1"));
        for (host, question) in [("", "1"), ("*", "1"), ("a.b", "1"), ("a b", "1"), ("a", ""), ("a", "x y")] {
            assert!(!of(host, question), "{host} {question}");
        }
        assert!(Asker::of(None).is_none());
    }
}
