//! What the fence costs a module: its speed, an instance of it, a host call's question, a pointer, a
//! buffer.
//!
//! The kernels are real code, compiled once (`benches/kernels`), and every way must get the same answer out of them before any
//! is timed. Everything is timed in turns within one run (`stockade_benches::pairs`); `targets.yaml` says what is promised.

use std::cell::RefCell;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use stockade_benches::pairs::{Pairs, Timed};
use stockade_benches::targets::Targets;
use stockade_policies::{Plan, PolicyStore, Principal, Source, SourceKind, Stock};
use stockade_runtime::measure::{Account, Asked, Bare, BareFile, Governed, Kept, Way};

/// Kernels by name.
const KERNELS: &[(&str, &[u8])] = &[
    ("deflate", include_bytes!("../kernels/modules/deflate.wasm")),
    ("interpreter", include_bytes!("../kernels/modules/interpreter.wasm")),
    ("json", include_bytes!("../kernels/modules/json.wasm")),
    ("maps", include_bytes!("../kernels/modules/maps.wasm")),
    ("markdown", include_bytes!("../kernels/modules/markdown.wasm")),
    ("matmul", include_bytes!("../kernels/modules/matmul.wasm")),
    ("patterns", include_bytes!("../kernels/modules/patterns.wasm")),
    ("sha", include_bytes!("../kernels/modules/sha.wasm")),
    ("sort", include_bytes!("../kernels/modules/sort.wasm")),
];

/// The smallest of them: what is left of it without a turn is what an instance takes.
const SMALLEST: &[u8] = include_bytes!("../kernels/modules/interpreter.wasm");

/// Time for all rounds: the bound of fuel is out of reach in it, so nothing is counted.
const POLICIES: &str = r#"
@id("bench-elapse")
permit (principal in Profile::"bench", action == Action::"elapse", resource == Meter::"guest")
when { context.millis <= 600000 };
@id("bench-clock")
permit (principal in Profile::"bench", action == Action::"readClock", resource == HostFunction::"stockade#clock_now_ms");
"#;

/// With this, fuel is counted.
const COUNTED: &str = r#"
@id("bench-fuel")
forbid (principal, action == Action::"burnFuel", resource) unless { context.ops <= 1000000000000 };
"#;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test` runs every benchmark to see that it works; `cargo bench` measures.
    let once = !std::env::args().any(|argument| argument == "--bench");
    let mut targets = Targets::read("wasm")?;
    kernels(once, &mut targets)?;
    loads(once, &mut targets)?;
    instances(once, &mut targets)?;
    questions(once, &mut targets)?;
    pointers(once, &mut targets)?;
    allocations(once, &mut targets)?;
    if !once {
        print!("{targets}");
    }
    Ok(())
}

/// Figures of a run that was no measurement would only mislead.
fn show(timed: &Timed, once: bool) {
    if !once {
        print!("{timed}");
    }
}

fn plan(more: &str) -> Result<Plan, Box<dyn Error>> {
    let source = |name: &str, text: String, kind| Source {
        name: name.to_owned(),
        text,
        kind,
    };
    let profile = r#"[{"uid": {"type": "Profile", "id": "bench"}, "attrs": {}, "parents": [{"type": "Profile", "id": "trusted"}]}]"#;
    let sources = [
        source("bench.json", profile.to_owned(), SourceKind::Entities),
        source("bench.cedar", format!("{POLICIES}{more}"), SourceKind::Policies),
    ];
    Ok(PolicyStore::load(&sources, Stock::With)?.plan(&Principal::caller("guest", "bench"))?)
}

/// How often a kernel does its work when it is called: once would be little more than warming the caches again.
const TURNS: u32 = 2;

/// The ways that a kernel runs, beside the bare one.
const WAYS: [&str; 3] = ["page", "epoch", "page and fuel"];

fn kernels(once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    let (uncounted, counted) = (plan("")?, plan(COUNTED)?);
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); WAYS.len()];
    let mut controls = Vec::new();
    for &(name, binary) in KERNELS {
        let bare = Bare::new(binary)?;
        let page = Governed::new(binary, uncounted.clone(), Way::Page)?;
        let epoch = Governed::new(binary, uncounted.clone(), Way::Epoch)?;
        let fuel = Governed::new(binary, counted.clone(), Way::Page)?;
        let mut bare = bare.start()?;
        let mut governed = [page.start()?, epoch.start()?, fuel.start()?];
        let answer = bare.work(1)?;
        for (way, instance) in WAYS.iter().zip(&mut governed) {
            if instance.work(1)? != answer {
                return Err(format!("{name} has another answer by {way}").into());
            }
        }
        let [page, epoch, fuel] = governed.map(RefCell::new);
        let work = |instance: &RefCell<stockade_runtime::measure::GovernedInstance>| {
            black_box(instance.borrow_mut().work(TURNS).is_ok());
        };
        let timed = Pairs::of(name)
            .way("bare wasmtime", || {
                black_box(bare.work(TURNS).is_ok());
            })
            .way(WAYS[0], || work(&page))
            .way(WAYS[1], || work(&epoch))
            .way(WAYS[2], || work(&fuel))
            .timed(once);
        show(&timed, once);
        for (ratios, way) in ratios.iter_mut().zip(WAYS) {
            ratios.extend(timed.ratio(way));
        }
        controls.extend(timed.nanos("bare wasmtime").map(|nanos| timed.control / nanos));
    }
    if !once {
        println!("all kernels, geometric mean and worst");
        for (way, ratios) in ["(bare again)"]
            .iter()
            .chain(&WAYS)
            .zip([controls].iter().chain(&ratios))
        {
            println!("  {way:<44} {:>14.3}  {:.3}", mean(ratios), worst(ratios));
        }
    }
    if let [page, epoch, fuel] = ratios.as_slice() {
        targets.measured("page", Some(mean(page)));
        targets.measured("page-worst", Some(worst(page)));
        targets.measured("epoch", Some(mean(epoch)));
        targets.measured("fuel", Some(mean(fuel)));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "there are nine kernels")]
fn mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

fn worst(ratios: &[f64]) -> f64 {
    ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The one that is nearest to a megabyte.
const LARGEST: &[u8] = include_bytes!("../kernels/modules/patterns.wasm");

/// A module from the cache.
fn loads(once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let bare = BareFile::new(LARGEST, &folder.path().join("bare"))?;
    let kept = Kept::new(LARGEST, plan("")?, &folder.path().join("kept"))?;
    kept.load_from_disk()?;
    let timed = Pairs::of("a module of 0.8 MB that was compiled before")
        .way("bare wasmtime, from a file", || {
            black_box(bare.load().is_ok());
        })
        .way("from the cache", || {
            black_box(kept.load().is_ok());
        })
        .way("from the cache, the first time in a process", || {
            black_box(kept.load_from_disk().is_ok());
        })
        .timed(once);
    show(&timed, once);
    if !once {
        // A round of this takes as long as all the others do.
        let compiling = Instant::now();
        Governed::new(LARGEST, plan("")?, Way::Page)?;
        println!(
            "  {:<44} {:>11.0} ms",
            "compiled, once",
            compiling.elapsed().as_secs_f64() * 1e3
        );
    }
    targets.measured("load", timed.nanos("from the cache").map(|nanos| nanos / 1e3));
    Ok(())
}

/// An instance, one call that does nothing, and the end of it.
fn instances(once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    let (pooled, bare) = (Bare::pooled(SMALLEST)?, Bare::new(SMALLEST)?);
    let governed = Governed::new(SMALLEST, plan("")?, Way::Page)?;
    let timed = Pairs::of("an instance, a call and its end")
        .way("bare wasmtime, pooled", || {
            black_box(pooled.start().and_then(|mut instance| instance.work(0)).is_ok());
        })
        .way("bare wasmtime", || {
            black_box(bare.start().and_then(|mut instance| instance.work(0)).is_ok());
        })
        .way("governed", || {
            black_box(governed.start().and_then(|mut instance| instance.work(0)).is_ok());
        })
        .timed(once);
    show(&timed, once);
    targets.measured("instance", timed.ratio("governed"));
    Ok(())
}

/// What the `capability` layer adds to a host call.
fn questions(once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    let asked = Asked::of(plan("")?);
    if !asked.is_allowed() {
        return Err("the clock is not granted".into());
    }
    let timed = Pairs::of("a host call's question")
        .way("an empty loop", || {
            black_box(&asked);
        })
        .way("asked", || {
            black_box(black_box(&asked).is_allowed());
        })
        .timed(once);
    show(&timed, once);
    let over = timed
        .nanos("asked")
        .zip(timed.nanos("an empty loop"))
        .map(|(asked, empty)| asked - empty);
    targets.measured("capability", over);
    Ok(())
}

/// What the `bridge` adds to a copy of 64 bytes.
fn pointers(once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    let (bare, governed) = (Bare::new(SMALLEST)?, Governed::new(SMALLEST, plan("")?, Way::Page)?);
    let (mut bare, mut governed) = (bare.start()?, governed.start()?);
    if bare.read(1024, 64)? != governed.read(1024, 64)? || governed.read(u32::MAX, 64).is_ok() {
        return Err("the bridge reads something else".into());
    }
    let timed = Pairs::of("64 bytes out of a guest")
        .way("wasmtime's own check", || {
            black_box(bare.read(black_box(1024), black_box(64)).is_ok());
        })
        .way("the bridge", || {
            black_box(governed.read(black_box(1024), black_box(64)).is_ok());
        })
        .timed(once);
    show(&timed, once);
    let over = timed
        .nanos("the bridge")
        .zip(timed.nanos("wasmtime's own check"))
        .map(|(bridge, own)| bridge - own);
    targets.measured("pointer", over);
    Ok(())
}

/// What keeping account adds to a buffer that the host has the guest allocate, while others are held.
fn allocations(once: bool, targets: &mut Targets) -> Result<(), Box<dyn Error>> {
    const SIZE: u32 = 64;
    /// Behind all of them, as most allocators answer, and between two.
    const PLACES: [(&str, &str, u32); 2] = [
        ("allocation", "the last", 32 * SIZE),
        ("allocation-between", "between others", 17 * SIZE),
    ];
    let mut account = Account::of(plan("")?);
    for number in 0..16 {
        if !account.enter(number * 2 * SIZE, SIZE) {
            return Err("a buffer apart from the others is refused".into());
        }
    }
    if account.enter(0, SIZE) || account.strike(SIZE) {
        return Err("the account takes what overlaps, or what is not there".into());
    }
    let account = RefCell::new(account);
    let keep = |pointer: u32| {
        let mut account = account.borrow_mut();
        black_box(account.enter(black_box(pointer), SIZE) && account.strike(black_box(pointer)));
    };
    let timed = Pairs::of("a buffer that is given and given back")
        .way("an empty loop", || {
            black_box(&account);
        })
        .way(PLACES[0].1, || keep(PLACES[0].2))
        .way(PLACES[1].1, || keep(PLACES[1].2))
        .timed(once);
    show(&timed, once);
    for (target, way, _) in PLACES {
        let over = timed
            .nanos(way)
            .zip(timed.nanos("an empty loop"))
            .map(|(kept, empty)| kept - empty);
        targets.measured(target, over);
    }
    Ok(())
}
