//! Messages that are not what was sent.

use tidelock_checker::{Class, Id};

use super::caught;
use crate::scene::{IN, OUT, Scene, Told};

/// Bends one message, and expects that it is called corrupted and nothing else.
fn corrupted(topic: usize, fits: impl Fn(&Told) -> bool, bend: impl Fn(&mut Told)) {
    caught(|scene| {
        let found = scene.find(|told| told.topic == topic && told.visible && fits(told));
        let told = &mut scene.records[found[found.len() / 2]];
        let id = told.id();
        bend(told);
        vec![(Class::Corrupted, vec![id])]
    });
}

fn long(told: &Told) -> bool {
    told.payload.as_ref().is_some_and(|payload| payload.len() > 5) && told.key.is_some()
}

#[test]
fn a_byte_of_the_payload_is_another() {
    corrupted(IN, long, |told| told.payload.as_mut().unwrap()[3] ^= 1);
}

#[test]
fn a_byte_of_the_key_is_another() {
    corrupted(IN, long, |told| told.key.as_mut().unwrap()[4] ^= 1);
}

#[test]
fn the_payload_is_cut_off() {
    corrupted(IN, long, |told| told.payload.as_mut().unwrap().truncate(4));
}

#[test]
fn the_payload_is_empty_instead_of_none() {
    corrupted(IN, |told| told.payload.is_none(), |told| told.payload = Some(Vec::new()));
}

#[test]
fn the_key_is_none_instead_of_something() {
    corrupted(IN, long, |told| told.key = None);
}

#[test]
fn a_byte_moved_from_the_payload_to_the_key() {
    corrupted(IN, long, |told| {
        let byte = told.payload.as_mut().unwrap().remove(0);
        told.key.as_mut().unwrap().push(byte);
    });
}

#[test]
fn the_checksum_is_another() {
    corrupted(IN, long, |told| {
        let header = told.header.as_mut().unwrap();
        let last = if header.pop() == Some('0') { '1' } else { '0' };
        header.push(last);
    });
}

#[test]
fn a_byte_of_an_output_is_another() {
    corrupted(OUT, long, |told| told.payload.as_mut().unwrap()[0] ^= 0x80);
}

#[test]
fn the_time_in_the_header_is_another() {
    corrupted(IN, long, |told| {
        let header = told.header.take().unwrap();
        told.header = Some(header.replacen(" 17", " 18", 1));
    });
}

#[test]
fn the_payload_of_one_stands_in_another() {
    caught(|scene| {
        let places = scene.find(|told| told.topic == IN && told.visible && long(told));
        let (one, other) = (places[50], places[90]);
        let payload = scene.records[one].payload.clone();
        scene.records[other].payload = payload;
        vec![(Class::Corrupted, vec![scene.records[other].id()])]
    });
}

#[test]
fn one_claims_the_number_of_another() {
    caught(|scene| {
        let places = scene.find(|told| told.topic == IN && told.visible && told.says().of == 1);
        let (one, other) = (places[30], places[60]);
        let (gone, claimed) = (scene.records[one].id(), scene.records[other].says());
        let (producer, seq) = (claimed.producer, claimed.seq);
        let told = &mut scene.records[one];
        let said = told.says();
        let text = format!("v1 r1 {} {} ", said.producer, said.seq);
        let header = told.header.as_ref().unwrap().replacen(&text, &format!("v1 r1 {producer} {seq} "), 1);
        told.header = Some(header);
        let claimed = Id { producer, seq, copy: 0 };
        vec![(Class::Lost, vec![gone]), (Class::Corrupted, vec![claimed])]
    });
}

/// With a checksum that fits, only the ledger tells.
fn another_than_the_ledger(topic: usize, bend: impl Fn(&mut tidelock_checker::Identity<'_>)) {
    caught(|scene: &mut Scene| {
        let keyless = |told: &&Told| told.topic == topic && told.visible && told.says().key_seq == 0;
        let at = scene.records.iter().position(|told| keyless(&told)).unwrap();
        let told = &mut scene.records[at];
        told.say(&bend);
        let id = told.id();
        if topic == IN {
            let crc = u32::from_str_radix(told.header.as_ref().unwrap().rsplit(' ').next().unwrap(), 16);
            let effect = scene
                .effects
                .iter_mut()
                .find(|effect| (effect.producer, effect.seq) == (id.producer, id.seq));
            effect.unwrap().crc = crc.unwrap();
        }
        vec![(Class::Corrupted, vec![id])]
    });
}

#[test]
fn it_says_another_place_in_its_key_than_the_ledger() {
    another_than_the_ledger(IN, |identity| identity.key_seq = 1 << 40);
}

#[test]
fn it_says_another_transaction_than_the_ledger() {
    another_than_the_ledger(IN, |identity| identity.txn += 10_000);
}

#[test]
fn an_output_says_another_transaction_than_the_ledger() {
    another_than_the_ledger(OUT, |identity| identity.txn += 1);
}
