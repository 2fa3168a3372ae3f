//! A table of runs, for people.

use super::Outcome;

/// A run that came to its end, or why it did not.
pub type Ran = Result<Outcome, String>;

/// The heading of [`row`].
pub const HEADING: &str = "| seed | link | acknowledged: writes, reads, restrictions (noted), erasures | published lag | \
     lost: window, entries, acknowledgements | restrictions lost (all noted) | first read | first write | three voters | verdict |\n\
     |---|---|---|---|---|---|---|---|---|---|";

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1_000.0)
}

/// A run.
pub fn row(seed: u64, ran: &Ran) -> String {
    let outcome = match ran {
        Ok(outcome) => outcome,
        Err(why) => {
            return format!("| {seed} | | | | | | | | | did not end: {} |", why.lines().next().unwrap_or_default());
        }
    };
    let (plan, times, verdict) = (&outcome.plan, &outcome.times, &outcome.verdict);
    let loss = &verdict.loss;
    let mut link = format!("{} ms, {} KiB/s", plan.delay_ms, plan.kib);
    if plan.stall_ms > 0 {
        link += &format!(", nothing for {}", seconds(plan.stall_ms));
    }
    if plan.power_cut {
        link += "; power cut";
    }
    let rules: Vec<&str> = verdict.told.keys().map(String::as_str).collect();
    format!(
        "| {seed} | {link} | {}, {}, {} ({}), {} | {} | {}, {}, {} | {} | {} | {} | {} | {} |",
        loss.puts,
        loss.reads,
        loss.plain + loss.noted,
        loss.noted,
        loss.erasures,
        loss.last_lag_ms.map_or("UNKNOWN".into(), seconds),
        seconds(loss.window_ms),
        loss.entries,
        loss.acknowledgements,
        loss.restrictions.len(),
        seconds(times.first_read_ms),
        seconds(times.first_write_ms),
        seconds(times.three_voters_ms),
        if rules.is_empty() { "clean".to_owned() } else { rules.join(" ") },
    )
}

/// All runs, in sums and bounds.
pub fn totals(all: &[(u64, Ran)]) -> String {
    let done: Vec<&Outcome> = all.iter().filter_map(|(_, ran)| ran.as_ref().ok()).collect();
    let clean = done.iter().filter(|outcome| outcome.verdict.violations.is_empty()).count();
    let sum = |of: fn(&Outcome) -> usize| done.iter().map(|outcome| of(outcome)).sum::<usize>();
    let bounds = |of: fn(&Outcome) -> u64| {
        let mut all: Vec<u64> = done.iter().map(|outcome| of(outcome)).collect();
        all.sort_unstable();
        match (all.first(), all.get(all.len() / 2), all.last()) {
            (Some(least), Some(middle), Some(most)) => {
                format!("{} (median), {} to {}", seconds(*middle), seconds(*least), seconds(*most))
            }
            _ => "none".into(),
        }
    };
    format!(
        "{clean} of {} runs are clean; {} writes, {} reads, {} restrictions ({} noted), {} erasures acknowledged\n\
         loss window   {}\nfirst read    {}\nfirst write   {}\nthree voters  {}",
        all.len(),
        sum(|one| one.verdict.loss.puts),
        sum(|one| one.verdict.loss.reads),
        sum(|one| one.verdict.loss.plain + one.verdict.loss.noted),
        sum(|one| one.verdict.loss.noted),
        sum(|one| one.verdict.loss.erasures),
        bounds(|one| one.verdict.loss.window_ms),
        bounds(|one| one.times.first_read_ms),
        bounds(|one| one.times.first_write_ms),
        bounds(|one| one.times.three_voters_ms),
    )
}
