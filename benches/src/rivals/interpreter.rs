//! wasmi, which interprets modules.

use wasmi::{Engine, Instance, Linker, Memory, Module, Store, TypedFunc};

/// A kernel in wasmi.
pub struct Interpreted {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

/// What goes wrong is for people to read.
fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Interpreted {
    /// An instance of a module that imports nothing.
    ///
    /// # Errors
    /// Where wasmi does not take it.
    pub fn new(binary: &[u8]) -> Result<Self, String> {
        let engine = Engine::default();
        let module = Module::new(&engine, binary).map_err(said)?;
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine)
            .instantiate_and_start(&mut store, &module)
            .map_err(said)?;
        let memory = instance
            .get_memory(&store, "memory")
            .ok_or("the module exports no memory")?;
        Ok(Self {
            store,
            instance,
            memory,
        })
    }

    /// Has the kernel work so many turns, and returns what it wrote.
    ///
    /// # Errors
    /// Where the module is no kernel, or traps.
    pub fn work(&mut self, turns: u32) -> Result<Vec<u8>, String> {
        let input = self.stated("input_ptr")?;
        self.memory
            .write(&mut self.store, input as usize, &turns.to_le_bytes())
            .map_err(said)?;
        let run: TypedFunc<u32, u32> = self.instance.get_typed_func(&self.store, "run").map_err(said)?;
        let count = run.call(&mut self.store, 4).map_err(said)?;
        let output = self.stated("output_ptr")?;
        let mut bytes = vec![0; count as usize];
        self.memory
            .read(&self.store, output as usize, &mut bytes)
            .map_err(said)?;
        Ok(bytes)
    }

    fn stated(&mut self, name: &str) -> Result<u32, String> {
        let getter: TypedFunc<(), u32> = self.instance.get_typed_func(&self.store, name).map_err(said)?;
        getter.call(&mut self.store, ()).map_err(said)
    }
}
