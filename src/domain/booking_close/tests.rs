//! Tests of `booking_close`.

use super::*;

fn at(micros: i64) -> Option<Timestamp> {
    Timestamp::from_micros(micros)
}

fn closing(text: &str) -> BookingClose {
    BookingClose::Relative(text.parse().expect("a relative time"))
}

#[test]
fn a_relative_close_follows_from_the_time_that_it_names() {
    let (start, end) = (at(5_000_000), at(9_000_000));
    for (text, expected) in
        [("start", 5_000_000), ("start-2s", 3_000_000), ("start+1ms", 5_001_000), ("end", 9_000_000), ("END - 9s", 0)]
    {
        assert_eq!(closing(text).time(start, end), at(expected), "{text}");
    }
    assert_eq!(closing("start-1h").time(None, end), None, "there is nothing from which it follows");
    assert_eq!(closing("end").time(start, None), None);
    assert_eq!(BookingClose::Never.time(start, end), None);
    assert_eq!(BookingClose::At(Timestamp::MIN).time(start, end), Some(Timestamp::MIN));
    assert_eq!(closing("start-366days").time(Some(Timestamp::MIN), end), Some(Timestamp::MIN), "no moment is earlier");
}

#[test]
fn a_relative_time_is_written_as_it_is_read() {
    for text in ["start", "end", "start-30m", "end+1h 30m", "start-1day 1us"] {
        let time: RelativeTime = text.parse().expect("a relative time");
        assert_eq!(time.to_string(), text);
        assert_eq!(String::from(time).try_into(), Ok(time));
    }
    for bad in ["", "never", "begin", "start30m", "start-", "start+-1s", "start 30m", "end-367days", "end*1h", "ende"] {
        assert!(bad.parse::<RelativeTime>().is_err(), "{bad}");
    }
}
