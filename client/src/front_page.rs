use kura_client::{
    Class, Client, Config, Consent, Date, GetError, Listed, Method, NewRecord, Participant, ParticipantNumber,
    Purpose, PutError, User, now_ms,
};

async fn front_page() -> Result<(), Box<dyn std::error::Error>> {
    let kura = Client::connect(Config::load("client.toml")?).await?; // all endpoints; certificate files reload
    let number: ParticipantNumber = "0043001234567890".parse()?;
    let (date, now) = ("2026-04-01".parse::<Date>()?, now_ms());

    // Who acts is stated by the application and journalled as stated.
    let clerk = kura.act(User::at("F0012", "u-0192").authenticated(Method::Card, now));
    clerk.enrol(&number, Consent::signed_on(date).evidence("paper 2026-113")).await?;
    clerk.link(&number, "00-123-45").await?;
    // The facilities that the participant names, on paper: the hospital itself, and another.
    clerk.grant(&number, "F0012").evidence("paper 2026-113").await?;
    clerk.grant(&number, "F0300").evidence("paper 2026-113").await?;

    // Any reader, of any length. The document id makes it happen once, even across restarts.
    let doctor = kura.act(User::at("F0012", "u-0007").authenticated(Method::Card, now));
    let file = tokio::fs::File::open("study.dcm").await?;
    let image = NewRecord::new(Class::Image, "application/dicom", date).document_id("1.2.392.200036.1");
    let receipt = match doctor.put(&number, image).body(file).await {
        Ok(receipt) => receipt,
        Err(PutError::Unknown { request }) => kura.outcome(request).await?.committed()?,
        Err(error) if error.may_retry() => return Err(format!("later: {error}").into()),
        Err(error) => return Err(error.into()),
    };
    std::fs::write("receipt.txt", receipt.to_string())?; // receipts are worth storing

    let mut list = doctor.list(&number).class(Class::Image).since(date).stream();
    while let Some(listed) = list.next().await {
        match listed? {
            Listed::Record(summary) => println!("{}", summary.clinical_date),
            // It is there: whoever looks for it has to know.
            Listed::Damaged(damaged) => println!("{} does not open", damaged.record),
        }
    }

    let mut out = tokio::fs::File::create("beginning.dcm").await?;
    match doctor.get(&number, receipt.record()).purpose(Purpose::Care).range(..1 << 20).await {
        Ok(record) => drop(tokio::io::copy_buf(&mut record.into_reader(), &mut out).await?),
        Err(GetError::Denied(denial)) => println!("{denial}"),
        Err(error) => return Err(error.into()),
    }

    let person = kura.act(Participant::numbered(number).authenticated(Method::TwoFactor, now));
    let mut seen = person.accesses().since(date).stream();
    while let Some(access) = seen.next().await {
        let access = access?;
        println!("{} {} {}", access.facility, access.action, access.basis);
    }
    person.revoke("F0300").await?; // no read of F0300 that starts later succeeds
    Ok(())
}
