//! A health checkup as HL7 CDA R2, like the reports of the Japanese specific health checkups.

use std::fmt::Write;

use super::context::{Context, compact, decimal};
use super::vocabulary::TESTS;

/// The report, UTF-8.
pub(super) fn checkup(context: &mut Context) -> Vec<u8> {
    let person = context.participant.clone();
    let (day, stamp) = (compact(&context.date()), context.stamp());
    let (facility, author) = (context.facility.clone(), context.author.clone());
    let (serial, text) = (context.random.digits(16), context.clinical_text(3));
    let mut xml = String::with_capacity(8 * 1024);
    let _ = write!(
        xml,
        r#"<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
  <id root="1.2.392.200119.6.1201" extension="{serial}"/>
  <code code="10" codeSystem="1.2.392.200119.6.1001" displayName="特定健診情報"/>
  <title>健康診査結果報告書</title>
  <effectiveTime value="{stamp}"/>
  <confidentialityCode code="N"/>
  <recordTarget>
    <patientRole>
      <id root="1.2.392.200119.6.102.1{institution}" extension="{local_id}"/>
      <addr>{home}</addr>
      <patient>
        <name><family>{family}</family><given>{given}</given></name>
        <administrativeGenderCode code="{sex}" codeSystem="1.2.392.200119.6.1104"/>
        <birthTime value="{birth}"/>
      </patient>
    </patientRole>
  </recordTarget>
  <author>
    <time value="{day}"/>
    <assignedAuthor>
      <id nullFlavor="NI"/>
      <assignedPerson><name>{author}</name></assignedPerson>
      <representedOrganization>
        <id root="1.2.392.200119.6.102" extension="{institution}"/>
        <name>{place}</name>
        <addr>{address}</addr>
      </representedOrganization>
    </assignedAuthor>
  </author>
  <custodian>
    <assignedCustodian><representedCustodianOrganization><id root="1.2.392.200119.6.102" extension="{institution}"/></representedCustodianOrganization></assignedCustodian>
  </custodian>
  <component>
    <structuredBody>
      <component>
        <section>
          <code code="01010" codeSystem="1.2.392.200119.6.1010" displayName="検査・問診結果セクション"/>
          <title>検査・問診結果</title>
          <text>{text}</text>
"#,
        institution = facility.institution_number,
        local_id = context.local_id,
        home = context.home,
        family = person.family,
        given = person.given,
        sex = if person.female { 2 } else { 1 },
        birth = compact(&super::context::date(person.birth_day)),
        author = author.name(),
        place = facility.name,
        address = facility.address,
    );
    let first = context.random.below(TESTS.len() as u64) as usize;
    let count = context.random.between(10, 24) as usize;
    for (code, name, _, unit, low, high, places) in TESTS.iter().cycle().skip(first).take(count) {
        let value = context.measured(*low, *high);
        let _ = write!(
            xml,
            r#"          <entry>
            <observation classCode="OBS" moodCode="EVN">
              <code code="{code}" codeSystem="1.2.392.200119.6.1005" displayName="{name}"/>
              <value xsi:type="PQ" value="{}" unit="{unit}"/>
              <interpretationCode code="{}"/>
              <referenceRange>
                <observationRange>
                  <value xsi:type="IVL_PQ"><low value="{}" unit="{unit}"/><high value="{}" unit="{unit}"/></value>
                </observationRange>
              </referenceRange>
            </observation>
          </entry>
"#,
            decimal(value, *places),
            if value < *low {
                "L"
            } else if value > *high {
                "H"
            } else {
                "N"
            },
            decimal(*low, *places),
            decimal(*high, *places),
        );
    }
    xml.push_str(
        "        </section>\n      </component>\n    </structuredBody>\n  </component>\n</ClinicalDocument>\n",
    );
    xml.into_bytes()
}
