//! Replay of stores that no daemon has written. `PROPTEST_CASES` sets how many, and `../fuzz/` looks longer.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::forge;

fn config() -> ProptestConfig {
    let cases =
        if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 150 };
    let kept = FileFailurePersistence::Direct("tests/durable/regressions.txt");
    ProptestConfig { cases, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_a_store_says_it_is_read_and_can_be_written_again(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        forge::check(&bytes);
    }

    /// Mostly orderly records, of few messages.
    #[test]
    fn any_order_of_records_means_the_same_when_it_is_written_again(
        steps in prop::collection::vec((5..16_u8, any::<[u8; 2]>(), 0..12_u8, 0..12_u8, any::<[u8; 2]>()), 0..120)
    ) {
        let step = |(what, [kind, mailbox], a, b, [c, d]): (_, [u8; 2], _, _, [u8; 2])| [what, kind, mailbox, a, b, c, d];
        forge::check(&steps.into_iter().flat_map(step).collect::<Vec<u8>>());
    }
}
