//! What the fuzz targets need of the encrypted channel, which is nobody else's business.

use super::noise::{Channel, Handshake, MAX_RECORD, Opening};
use crate::{identity::Identity, url::NodeUrl};

/// The two ends of a handshake that nobody has disturbed.
fn shake() -> (Channel, Channel) {
    let text = opening();
    let (mut dialler, mut listener) = ends(&text);
    let mut pass = || {
        listener.read(&dialler.write()?)?;
        dialler.read(&listener.write()?)?;
        listener.read(&dialler.write()?)
    };
    pass().expect("two ends with one opening and valid keys agree");
    let end = |handshake: Handshake| handshake.finish().expect("the handshake is complete").0;
    (end(dialler), end(listener))
}

/// A clear first frame as a node sends it.
#[must_use]
pub fn opening() -> String {
    let url = NodeUrl::parse("http://127.0.0.1:1/a").expect("a node's URL");
    Opening::new(None, url).encode()
}

fn ends(text: &str) -> (Handshake, Handshake) {
    let made = |handshake: Result<Handshake, _>| handshake.expect("an identity's keys fit the pattern");
    (
        made(Handshake::dialler(&Identity::from_seed(&[1; 32]), text)),
        made(Handshake::listener(&Identity::from_seed(&[2; 32]), text)),
    )
}

/// Reads any text as an opening. What is read is written and read as the same.
pub fn read_opening(text: &str) {
    if let Ok(opening) = Opening::parse(text) {
        assert_eq!(Opening::parse(&opening.encode()).as_ref(), Ok(&opening));
    }
}

/// Lets `change` alter message `step` (0 to 2) of a handshake. Whether both ends have come to its end; an altered message never leads there.
pub fn handshake(step: usize, change: impl FnOnce(&mut Vec<u8>)) -> bool {
    let text = opening();
    let (mut dialler, mut listener) = ends(&text);
    let mut change = Some(change);
    for now in 0..3 {
        let (from, to) = if now == 1 {
            (&mut listener, &mut dialler)
        } else {
            (&mut dialler, &mut listener)
        };
        let mut message = from.write().expect("its turn").to_vec();
        if now == step
            && let Some(change) = change.take()
        {
            change(&mut message);
        }
        if to.read(&message).is_err() {
            return false;
        }
    }
    dialler.finish().is_ok() && listener.finish().is_ok()
}

/// Seals `plains`, lets `change` do anything with the records on their way, and opens what comes: each that opens is the next one that was sealed, and
/// after one that does not open the connection is over.
pub fn records(plains: &[&[u8]], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> usize {
    let (mut out, mut back) = shake();
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    for plain in plains {
        match out.seal(plain) {
            Ok(record) => sealed.push(record.to_vec()),
            Err(_) => assert!(plain.len() + 16 > MAX_RECORD, "what fits a record can be sealed"),
        }
    }
    let fits: Vec<&&[u8]> = plains.iter().filter(|plain| plain.len() + 16 <= MAX_RECORD).collect();
    change(&mut sealed);
    let mut scratch = Vec::new();
    let mut opened = 0;
    for record in &sealed {
        let Ok(plain) = back.open(record, &mut scratch) else {
            break;
        };
        assert_eq!(
            plain,
            **fits.get(opened).expect("no more records open than were sealed")
        );
        opened += 1;
    }
    opened
}
