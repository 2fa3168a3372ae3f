//! A nursing or care note: plain text in UTF-8, as staff type it.

use std::fmt::Write;

use super::context::Context;

/// One day's note, some hundred bytes to some thousand.
pub(super) fn care(context: &mut Context) -> Vec<u8> {
    let mut text = format!(
        "{}　経過記録\n利用者：{} 様　利用者番号：{}\n記録者：{}　記録日：{}\n",
        context.facility.name,
        context.participant.name(),
        context.local_id,
        context.author.name(),
        context.date(),
    );
    for _ in 0..context.random.between(1, 4) {
        let (hour, minute) = (context.random.between(8, 18), context.random.between(0, 59));
        let (temperature, pulse) = (context.random.between(352, 378), context.random.between(56, 98));
        let (high, low, oxygen) =
            (context.random.between(98, 162), context.random.between(52, 94), context.random.between(92, 99));
        let sentences = context.random.between(2, 7) as usize;
        let _ = write!(
            text,
            "\n{hour:02}:{minute:02}　体温 {}℃　脈拍 {pulse}回/分　血圧 {high}/{low}mmHg　SpO2 {oxygen}%\n{}\n",
            super::context::decimal(temperature, 1),
            context.care_text(sentences),
        );
    }
    if context.random.chance(50) {
        let drug = context.drug();
        let _ = write!(text, "\n服薬確認：{}\n", drug.name);
    }
    text.into_bytes()
}
