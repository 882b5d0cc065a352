//! Multiplies matrices: the smallest of loops, and nothing else.

use stockade_kernels::kernel;

const SIZE: usize = 96;

fn work(turn: u32) -> u64 {
    let filled = |seed: u32| -> Vec<f32> { (0..SIZE * SIZE).map(|at| ((at as u32 * seed + turn) % 97) as f32).collect() };
    let (left, right) = (filled(7), filled(13));
    let mut product = vec![0_f32; SIZE * SIZE];
    for row in 0..SIZE {
        for column in 0..SIZE {
            let mut sum = 0.0;
            for at in 0..SIZE {
                sum += left[row * SIZE + at] * right[at * SIZE + column];
            }
            product[row * SIZE + column] = sum;
        }
    }
    product.iter().sum::<f32>().to_bits().into()
}

kernel!(work);
