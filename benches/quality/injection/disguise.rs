//! The disguises that attackers use, made on purpose so that the model learns to see through them.

use super::random::Random;

/// `text` with some of its letters replaced by digits and signs, or by letters that look alike.
pub fn disguise(text: &str, random: &mut Random) -> String {
    let look_alike = random.below(2) == 0;
    let often = 2 + random.below(3);
    let swap = |c: char| match (look_alike, c) {
        (true, 'a') => 'а',
        (true, 'e') => 'е',
        (true, 'o') => 'ο',
        (true, 'c') => 'с',
        (true, 'p') => 'р',
        (true, 'i') => 'і',
        (true, 's') => 'ѕ',
        (false, 'a') => '4',
        (false, 'e') => '3',
        (false, 'o') => '0',
        (false, 'i') => '1',
        (false, 's') => '5',
        (false, 't') => '7',
        (_, c) => c,
    };
    text.chars().map(|c| if random.below(often) == 0 { swap(c) } else { c }).collect()
}
