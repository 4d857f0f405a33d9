//! Attacks on the running server, in a process of its own: its memory does not grow, and honest callers get right
//! answers, every time, during an attack and after. `make attacks` measures how long they wait, on an otherwise idle
//! machine.

mod arsenal;
mod large;
mod limits;
mod shared;
mod siege;

use std::time::Duration;

use arsenal::{Attack, Pace};
use siege::Siege;

use crate::support::http2_frames;

/// One test for each attack, with a number of steps.
macro_rules! attacks {
    ($($name:ident: $attack:ident, $steps:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let siege = Siege::begin(Attack::$attack).await;
            let attacker = Attack::$attack.run(&siege.target(), Pace::new($steps, Duration::ZERO)).await;
            // The attacker's connections stay open for the moment.
            siege.goes_on().await;
            drop(attacker);
            siege.end().await;
        })+

        #[test]
        fn every_attack_has_a_test() {
            let tried = [$(Attack::$attack),+];
            assert_eq!(Attack::ALL.iter().find(|attack| !tried.contains(attack) && !WITH_TLS.contains(attack)), None);
        }
    };
}

/// Those that `limits` tries, on a server with TLS.
const WITH_TLS: [Attack; 1] = [Attack::SlowHandshakes];

attacks! {
    streams_that_are_opened_and_reset: RapidReset, 200;
    calls_that_are_begun_and_abandoned: AbandonedCalls, 60;
    streams_that_are_opened_and_left: StreamFlood, 120;
    headers_that_never_end: ContinuationFlood, 200;
    headers_that_unpack_to_much: HeaderBomb, 200;
    connections_that_say_nothing: SilentConnections, 80;
    connections_that_say_little: SilentHttp2, 80;
    connections_that_come_and_go: Churn, 60;
    messages_that_come_byte_by_byte: SlowBodies, 160;
    messages_that_are_too_large: LargeMessages, 80;
    messages_that_unpack_to_much: CompressionBomb, 20;
    pings: Pings, 200;
    settings: Settings, 200;
    frames_with_nothing_in_them: EmptyFrames, 100;
    answers_that_are_not_read: UnreadAnswers, 120;
    answers_that_are_read_byte_by_byte: TrickledAnswers, 120;
    watches_that_are_not_read: UnreadWatches, 24;
    watches_of_the_health: HealthWatches, 60;
    reflection_that_is_asked_nothing: IdleReflection, 100;
}
