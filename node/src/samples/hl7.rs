//! HL7 v2.5 messages as Japanese hospitals keep them (SS-MIX2 1.20): ISO-2022-JP, segments ended by
//! a carriage return, `|^~\&` as delimiters.

use super::context::{Context, compact, decimal};
use super::jis;
use super::roster::{Facility, User};
use super::vocabulary::{ALLERGENS, CONDITIONS, DEPARTMENTS, TESTS, USAGES};

/// Segments of a message in UTF-8, joined and encoded by [`Message::finish`].
struct Message(Vec<String>);

impl Message {
    /// MSH, PID and PV1, with what the kind of message needs between them.
    fn start(context: &mut Context, kind: &str, event: Option<&str>) -> Message {
        let (sent, serial) = (context.stamp(), context.random.digits(14));
        let mut segments = vec![format!(
            "MSH|^~\\&|HIS{}|SEND|GW|RCV|{sent}||{kind}|{serial}|P|2.5||||||~ISO IR87||ISO 2022-1994|SS-MIX2_1.20^SS-MIX2^1.2.392.200250.2.1.100.1.2.120^ISO",
            context.random.digits(3),
        )];
        segments.extend(event.map(str::to_owned));
        segments.push(format!(
            "PID|0001||{}^^^^PI||{}||{}|{}|||^^^^{}-{}^JPN^H^{}||^PRN^PH^^^^^^^^^000-{}-{}",
            context.local_id,
            person(context),
            compact(&super::context::date(context.participant.birth_day)),
            if context.participant.female { "F" } else { "M" },
            context.random.digits(3),
            context.random.digits(4),
            context.home,
            context.random.digits(3),
            context.random.digits(4),
        ));
        let (code, _) = context.random.pick_ref(DEPARTMENTS);
        let doctor = doctor(context);
        segments.push(format!("PV1|0001|O|{code}^^^^^C||||{doctor}|||{code}"));
        Message(segments)
    }

    fn push(&mut self, segment: String) {
        self.0.push(segment);
    }

    fn finish(self) -> Vec<u8> {
        let mut text = self.0.join("\r");
        text.push('\r');
        jis::encode(&text).into_bytes()
    }
}

fn person(context: &Context) -> String {
    let person = &context.participant;
    format!("{}^{}^^^^^L^I~{}^{}^^^^^L^P", person.family, person.given, person.family_kana, person.given_kana)
}

fn user(number: &str, user: &User) -> String {
    format!("{number}^{}^{}^^^^^^^L^^^^^I", user.family, user.given)
}

fn doctor(context: &Context) -> String {
    user("110", &context.author)
}

/// ORC: order number, moment, who entered and who ordered it, department, facility.
fn order(context: &mut Context, control: &str, number: &str) -> String {
    let clerk = user("058", &context.roster.user(&context.facility, 2));
    let (code, name) = context.random.pick_ref(DEPARTMENTS);
    let moment = context.stamp();
    let Facility { name: place, address, .. } = &context.facility;
    format!(
        "ORC|{control}|{number}||1|||||{moment}|{clerk}||{}|{code}^^^^^C||||{code}^{name}^99XY1|PC01^^99XY2|||{place}|^^^^000-0000^JPN^^{address}|||||||O^外来患者オーダ^HL70482",
        doctor(context),
    )
}

/// ADT^A08: a patient's master data, with body measures and allergies.
pub(super) fn patient(context: &mut Context) -> Vec<u8> {
    let event = format!("EVN||{}|||||SEND001", context.stamp());
    let mut message = Message::start(context, "ADT^A08^ADT_A01", Some(&event));
    message.push(format!("NK1|1|{}|SEL^本人^HL70063|^^^^000-0000^JPN^H^{}", person(context), context.home));
    message.push("DB1|1|PT||N".into());
    let (height, weight) = (context.random.between(1420, 1830), context.random.between(380, 950));
    message.push(format!("OBX|1|NM|9N001000000000001^身長^JC10||{}|cm^cm^ISO+|||||F", decimal(height, 1)));
    message.push(format!("OBX|2|NM|9N006000000000001^体重^JC10||{}|kg^kg^ISO+|||||F", decimal(weight, 1)));
    let blood = context.random.pick(&["A", "B", "O", "AB"]);
    message.push(format!("OBX|3|CWE|5H010000009199911^血液型－ＡＢＯ式^JC10||{blood}^{blood}^JSHR002||||||F"));
    for set in 1..=context.random.between(0, 2) {
        let (code, name, _, kind, reaction) = context.random.pick_ref(ALLERGENS);
        message.push(format!("AL1|{set}|{kind}^アレルギー^HL70127|{code}^{name}^99XYZ|MI^軽度^HL70128|{reaction}"));
    }
    message.push(format!(
        "IN1|1|67^国民健康保険^JHSD0001|{}|||||||||{}",
        context.random.digits(8),
        compact(&context.date())
    ));
    message.finish()
}

/// RDE^O11: a prescription for outpatients (SS-MIX2 storage kind OMP-01).
pub(super) fn prescription(context: &mut Context) -> Vec<u8> {
    let mut message = Message::start(context, "RDE^O11^RDE_O11", None);
    let number = context.random.digits(15);
    for _ in 0..context.random.between(1, 6) {
        let order = order(context, "NW", &number);
        let drug = context.drug();
        let (usage, taken, times) = *context.random.pick_ref(USAGES);
        let days = *context.random.pick_ref(&[5, 7, 14, 28, 30]);
        let (code, unit) = drug.unit;
        message.push(order);
        message.push(format!(
            "RXE||{}^{}^HOT9|1||{code}^{unit}^MR9P|{code}^{unit}^MR9P|||{}|{code}^{unit}^MR9P||||{}||||{times}^{code}&{unit}&MR9P||OHP^外来処方^MR9P~OHI^院内処方^MR9P",
            drug.hot9, drug.name, times * days, context.random.digits(16),
        ));
        message.push(format!("TQ1|1||{usage}&{taken}&JAMISDP01|||{days}^d|{}", compact(&context.date())));
        message.push("RXR|PO^口^HL70162".into());
    }
    message.finish()
}

/// ORU^R01: laboratory results.
pub(super) fn laboratory(context: &mut Context) -> Vec<u8> {
    let mut message = Message::start(context, "ORU^R01^ORU_R01", None);
    let (number, taken) = (context.random.digits(15), context.stamp());
    message.push(order(context, "SC", &number));
    message.push(format!(
        "OBR|1|{number}||E001^生化学的検査^99O03|||{taken}|||||||||{}||||||{taken}|||F",
        doctor(context)
    ));
    let first = context.random.below(TESTS.len() as u64) as usize;
    let count = context.random.between(4, 22) as usize;
    for (set, (code, name, short, unit, low, high, places)) in TESTS.iter().cycle().skip(first).take(count).enumerate()
    {
        let value = context.measured(*low, *high);
        let flag = if value < *low {
            "L"
        } else if value > *high {
            "H"
        } else {
            ""
        };
        message.push(format!(
            "OBX|{}|NM|{code}^{name}^JC10^{short}^{name}^99X03||{}|{unit}^{unit}^99XYZ|{}-{}|{flag}|||F|||{taken}",
            set + 1,
            decimal(value, *places),
            decimal(*low, *places),
            decimal(*high, *places),
        ));
    }
    message.push(format!("SPM|1|{number}||023^血清^JC10|||||||||||||{taken}"));
    message.finish()
}

/// PPR^ZD1: a diagnosis (SS-MIX2 storage kind PPR-01).
pub(super) fn problem(context: &mut Context) -> Vec<u8> {
    let mut message = Message::start(context, "PPR^ZD1^PPR_ZD1", None);
    for set in 1..=context.random.between(1, 4) {
        let (icd, key, exchange, name) = *context.random.pick_ref(CONDITIONS);
        let (onset, today) = (compact(&context.earlier_date(900)), compact(&context.date()));
        let number = context.random.digits(15);
        message.push(format!(
            "PRB|AD|{today}|{key}^{name}^MDCDX2|{number}|||{onset}||{today}|{icd}^^I10^O^外来時^JHSD0004||||N^回復せず^HL70241|{today}|{onset}|{name}|{set}^主診断^JHSD0007|||||||V^非常に限定^HL70177",
        ));
        message.push(format!("ZPR||{key}^{name}^MDCDX2|||{exchange}^{name}^MDCDX2"));
        message.push(order(context, "NW", &number));
    }
    message.finish()
}
