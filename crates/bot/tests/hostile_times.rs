//! Times as nobody should write them, and some that are merely rare: what is read ends soon, in an
//! error that says where and why or in a schedule that is quick to ask.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a helper of a test may fail as the test itself may, and says what it measured"
)]

use std::time::{Duration, Instant};

use imbabot_bot::Schedule;
use imbabot_bot::schedule::{Cron, LocalTime, Rule, Zone};
use imbabot_bot::units::parse_duration;
use imbabot_core::Timestamp;
use proptest::prelude::*;

/// For each hostile text: 10 ms where it is optimised. Without optimisation, and beside other tests, it is
/// told from a hang and no more.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 250 } else { 10 });
/// For a name of a zone, of which the nearest is looked for among six hundred.
const ZONE_LIMIT: Duration = LIMIT;
const ZONES: [&str; 5] =
    ["UTC", "Europe/Berlin", "Africa/Casablanca", "Pacific/Apia", "Australia/Lord_Howe"];

/// What comes out, if it does so within the limit: the best of ten tries, for others run here too.
#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
fn within<T>(limit: Duration, what: impl Fn() -> String, work: impl Fn() -> T) -> T {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        let done = work();
        best = best.min(start.elapsed());
        if best <= limit {
            return done;
        }
    }
    panic!("{} took {best:?}", what())
}

fn soon<T>(what: impl Fn() -> String, work: impl Fn() -> T) -> T {
    within(LIMIT, what, work)
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A message fits on a screen, however long the text is that it is about.
fn readable(message: &str) {
    assert!(!message.is_empty() && message.chars().count() <= 1000, "{message}");
    assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
}

/// Asked from anywhere it answers soon, and from our days on it has an answer.
fn quick_to_ask(schedule: &Schedule) {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for zone in ZONES {
        let schedule = schedule.clone().timezone(zone).unwrap();
        for after in [Timestamp::MIN, Timestamp::EPOCH, now, Timestamp::MAX] {
            let next = soon(
                || format!("{} after {after}", schedule.time_definition()),
                || schedule.next_after(after),
            );
            assert!(next.is_none_or(|next| next > after));
            if after == now && matches!(schedule.rule(), Rule::Cron(_)) {
                assert!(next.is_some(), "{}", schedule.time_definition());
            }
        }
        let _ = soon(|| schedule.time_definition(), || schedule.misfire_rule());
    }
}

fn hostile_cron(text: &str) {
    match soon(|| format!("{:?}", shown(text)), || text.parse::<Cron>()) {
        Ok(cron) => quick_to_ask(&Schedule::new("s".parse().unwrap(), Rule::Cron(cron))),
        Err(why) => {
            assert!((1..=text.chars().count().max(1)).contains(&why.column()), "{text:?}: {why:?}");
            readable(&why.to_string());
        }
    }
}

/// Items that are nearly right, as fields that are nearly right.
fn nearly_cron() -> impl Strategy<Value = String> {
    let number = prop_oneof![4 => 0u32..62, 1 => any::<u32>()];
    let value = prop_oneof![
        6 => number.prop_map(|n| n.to_string()),
        1 => prop::sample::select(vec!["MON", "sun", "Jan", "DEC", "L", "LW", "?", "*", "FRIDAY", ""])
            .prop_map(str::to_owned),
    ];
    let item =
        (value.clone(), value, 0u32..80, 0u32..14).prop_map(|(a, b, step, shape)| match shape {
            0 => format!("{a}-{b}"),
            1 => format!("{a}-{b}/{step}"),
            2 => format!("*/{step}"),
            3 => format!("{a}#{}", step % 8),
            4 => format!("{a}L"),
            5 => format!("{a}W"),
            6 => format!("+{a}"),
            7..=10 => "*".to_owned(),
            _ => a,
        });
    let field = prop::collection::vec(item, 1..4).prop_map(|items| items.join(","));
    prop::collection::vec(field, 4..8).prop_map(|fields| fields.join(" "))
}

/// Rare days on which nearly nothing fits.
fn rare_cron() -> impl Strategy<Value = String> {
    let day =
        prop::sample::select(vec!["29", "30", "31", "L", "LW", "31W", "29-31", "1", "*/31", "*"]);
    let month = prop::sample::select(vec!["2", "FEB", "2,4", "4,6,9,11", "*", "2-12/10"]);
    let week =
        prop::sample::select(vec!["*", "1#5", "+1", "+0#5", "+5L", "*/7", "+7", "L", "SUN#1"]);
    (0u32..60, 0u32..24, day, month, week).prop_map(|(minute, hour, day, month, week)| {
        format!("{minute} {hour} {day} {month} {week}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t20_a_hostile_cron_expression_is_an_error_with_its_column_or_a_quick_schedule(
        text in prop_oneof![
            3 => nearly_cron(),
            2 => rare_cron(),
            1 => "[-0-9*/,?LW#+A-Z\t ]{0,90}",
            1 => "\\PC{0,700}",
            1 => any::<String>(),
        ]
    ) {
        hostile_cron(&text);
    }

    #[test]
    fn t20_a_hostile_period_is_an_error_or_a_quick_schedule(
        text in prop_oneof!["[0-9]{1,30}(ms|s|m|h|d|w|)", "([0-9]{1,3}[smhd]){0,9}", any::<String>()]
    ) {
        match soon(|| shown(&text), || parse_duration(&text)) {
            Err(why) => readable(&why),
            Ok(period) => match Schedule::every("s", period) {
                Ok(every) => quick_to_ask(&every),
                Err(why) => readable(&why.to_string()),
            },
        }
    }

    #[test]
    fn t20_a_hostile_date_and_time_is_an_error_or_a_quick_schedule(
        text in prop_oneof![
            "[-+]?[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}",
            "[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9][ T][0-2][0-9]:[0-5][0-9](:[0-5][0-9])?[.Z0-9]{0,3}",
            "\\PC{0,80}",
            any::<String>(),
        ]
    ) {
        match soon(|| shown(&text), || text.parse::<LocalTime>()) {
            Ok(local) => quick_to_ask(&Schedule::new("s".parse().unwrap(), Rule::At(local))),
            Err(why) => readable(&why),
        }
    }

    #[test]
    fn t20_a_hostile_exception_is_an_error_or_a_date(
        text in prop_oneof!["[0-9]{4}-[0-1][0-9]-[0-3][0-9]", "[-0-9.]{0,12}", any::<String>()]
    ) {
        let daily = Schedule::cron("s", "0 9 * * *").unwrap();
        match soon(|| shown(&text), || daily.clone().except([text.as_str()])) {
            Ok(schedule) => quick_to_ask(&schedule),
            Err(why) => readable(&why.to_string()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn t20_a_hostile_zone_is_an_error_or_a_zone(
        text in prop_oneof!["[A-Z][a-z]{1,8}/[A-Z][a-z_]{1,10}", "[./a-zA-Z_]{0,300}", any::<String>()]
    ) {
        if let Err(why) = within(ZONE_LIMIT, || shown(&text), || text.parse::<Zone>()) {
            readable(&why.to_string());
        }
    }
}

#[test]
fn t20_texts_without_end_are_put_down_at_once() {
    for piece in ["*", "1,", "0-59/1,", " ", "* ", "é", "9", "-", "MON", "\u{0}", "1s", "/"] {
        let long = piece.repeat(200_000);
        hostile_cron(&long);
        hostile_cron(&format!("{long} * * * *"));
        hostile_cron(&format!("* * * * {}", piece.repeat(490 / piece.len())));
        if let Err(why) = soon(|| format!("{piece:?} as a period"), || parse_duration(&long)) {
            readable(&why);
        }
        if let Err(why) = soon(|| format!("{piece:?} as a time"), || long.parse::<LocalTime>()) {
            readable(&why);
        }
        let zone = within(ZONE_LIMIT, || format!("{piece:?} as a zone"), || long.parse::<Zone>());
        readable(&zone.unwrap_err().to_string());
        let daily = Schedule::cron("s", "0 9 * * *").unwrap();
        let except = soon(|| format!("{piece:?} as a date"), || daily.clone().except([&*long]));
        readable(&except.unwrap_err().to_string());
    }
}

#[test]
fn t20_what_each_nasty_expression_is_told() {
    let mut told = String::new();
    for text in [
        "",
        "* * * *",
        "* * * * * * *",
        "@daily",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 32 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "0 0 1 1 1 8",
        "*/0 * * * *",
        "/5 * * * *",
        "5/10 * * * *",
        "*/x * * * *",
        "5-1 * * * *",
        "0 0 * * SAT-MON",
        "1,,2 * * * *",
        ", * * * *",
        "-1 * * * *",
        "1- * * * *",
        "1-2-3 * * * *",
        "99999999999999999999999 * * * *",
        "MON 9 * * *",
        "0 9 * MON *",
        "0 9 * * MONDAY",
        "0 9 * * ſUN",
        "é * * * *",
        "? * * * *",
        "L * * * *",
        "0 0 15W3 * *",
        "0 0 W * *",
        "0 0 L-3 * *",
        "0 0 * * L",
        "0 0 * * 5#6",
        "0 0 * * 1-5L",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 0 30 FEB +MON",
        "0 0 1 * +MON#2",
    ] {
        let why = text.parse::<Cron>().unwrap_err();
        told.push_str(&format!("{text:?} at {}: {why}\n", why.column()));
    }
    insta::assert_snapshot!(told);
}

fn next(expression: &str, after: &str) -> String {
    let schedule = Schedule::cron("s", expression).unwrap();
    let next = soon(|| expression.into(), || schedule.next_after(after.parse().unwrap()));
    next.unwrap().compact()
}

#[test]
fn t7_the_29_of_february_comes_in_leap_years_and_over_2100_after_eight() {
    assert_eq!(next("0 12 29 2 *", "2026-01-01T00:00:00Z"), "2028-02-29T12:00:00Z");
    assert_eq!(next("0 12 29 2 *", "2096-03-01T00:00:00Z"), "2104-02-29T12:00:00Z");
    assert_eq!(next("0 12 29 FEB +MON", "2026-01-01T00:00:00Z"), "2044-02-29T12:00:00Z");
    assert_eq!(next("0 12 29 FEB +SUN", "2072-01-01T00:00:00Z"), "2088-02-29T12:00:00Z");
    assert_eq!(next("0 12 * 2 MON#5", "2072-03-01T00:00:00Z"), "2112-02-29T12:00:00Z");
}

#[test]
fn t7_the_31_comes_in_months_that_have_it() {
    let schedule = Schedule::cron("s", "0 0 31 * *").unwrap();
    let year = schedule
        .instants("2026-01-01T00:00:00Z".parse().unwrap(), "2026-12-31T23:59:59Z".parse().unwrap());
    let months: Vec<String> = year.map(|i| i.at.compact()[5..7].to_owned()).collect();
    assert_eq!(months, ["01", "03", "05", "07", "08", "10", "12"]);
    assert_eq!(next("0 0 L 2 *", "2026-01-01T00:00:00Z"), "2026-02-28T00:00:00Z");
}

#[test]
fn t7_a_date_that_no_year_has_is_refused_and_one_that_a_rare_year_has_is_not() {
    for never in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30-31 FEB *", "0 0 8 * +MON#1"] {
        let why = soon(|| never.into(), || never.parse::<Cron>()).unwrap_err();
        assert!(why.to_string().contains("never fire"), "{never}: {why}");
    }
    // With an unrestricted or an alternative day there is something to fire on.
    for sometimes in ["0 0 29 2 *", "0 0 30 2 MON", "0 0 30 2,3 *", "0 0 29 FEB +WED"] {
        assert!(sometimes.parse::<Cron>().is_ok(), "{sometimes}");
    }
}

#[test]
fn t7_a_time_that_is_past_is_no_error_and_said_at_once_to_be_over() {
    for zone in ZONES {
        let past = Schedule::at("s", "2020-12-24T18:00:00").unwrap().timezone(zone).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(soon(|| zone.into(), || past.next_after(now)), None);
        assert!(past.next_after("2020-12-01T00:00:00Z".parse().unwrap()).is_some());
        // And one that is far is far, also where clocks change twice a year until then.
        let far = Schedule::at("s", "9990-01-01T12:00:00").unwrap().timezone(zone).unwrap();
        let next = soon(|| zone.into(), || far.next_after(now)).unwrap().compact();
        assert!(next.starts_with("9989-12-31") || next.starts_with("9990-01-01"), "{zone}: {next}");
    }
}

#[test]
fn every_second_with_a_month_left_out_is_quick_to_ask() {
    let dates: Vec<String> = (1..=31).map(|day| format!("2026-10-{day:02}")).collect();
    for zone in ZONES {
        let often = Schedule::cron("s", "* * * * * *").unwrap().timezone(zone).unwrap();
        let often = often.except(dates.iter().map(String::as_str)).unwrap();
        let after = "2026-10-02T00:00:00Z".parse().unwrap();
        let next = soon(|| zone.into(), || often.next_after(after)).unwrap();
        let shown = often.zone().rfc3339(next);
        assert!(shown.starts_with("2026-11-01T00:00:00"), "{shown}");
    }
}

#[test]
fn an_evening_that_is_left_out_is_left_out_again_where_the_clock_goes_back_into_it() {
    // A minute after midnight it was a minute past eleven once more.
    let often = Schedule::cron("s", "*/30 * * * *").unwrap().timezone("America/St_Johns").unwrap();
    let often = often.except(["2010-11-06"]).unwrap();
    let first = often.next_after("2010-11-06T12:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(often.zone().rfc3339(first), "2010-11-07T00:00:00-02:30");
    let second = often.next_after(first).unwrap();
    assert_eq!(often.zone().rfc3339(second), "2010-11-07T00:00:00-03:30");
}
