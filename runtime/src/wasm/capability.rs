//! What the layer `capability` asks when a host function is called.

use super::linker::{HostFunction, Needs};
use crate::gate::Gate;
use crate::layer::Layer;
use crate::outcome::{Class, Refusal};

/// The host functions that one run was granted when it called them first. A plan does not change under a run, so what it
/// answered once it answers again, until the guest is refused.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Granted(u32);

impl Granted {
    /// Asks whether `function` may be called, by a guest of this namespace.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn ask(&mut self, gate: &Gate, function: HostFunction, namespace: &str) -> Result<(), Refusal> {
        let bit = 1 << function as u32;
        if self.0 & bit != 0 && !gate.is_refused() {
            return Ok(());
        }
        let Needs::Grant(action, resource) = function.needs(namespace) else {
            // What is granted by name is asked about when the name is read.
            return Ok(());
        };
        gate.ask(action, &resource, &[])
            .map_err(|why| Refusal::by(Layer::Capability, Class::DeniedCapability, why))?;
        self.0 |= bit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stockade_policies::{PolicyStore, Principal};

    use super::*;
    use crate::layer::Layers;

    fn gate(profile: &str) -> Gate {
        let plan = PolicyStore::stock()
            .unwrap()
            .plan(&Principal::caller("guest", profile))
            .unwrap();
        Gate::new(plan, Layers::ALL, Box::new(()))
    }

    #[test]
    fn what_was_granted_is_granted_until_the_guest_is_refused() {
        let gate = gate("standard");
        let mut granted = Granted::default();
        for _ in 0..2 {
            assert!(granted.ask(&gate, HostFunction::ClockNowMs, "main").is_ok());
        }
        gate.refuse(Refusal::own_failure(Class::Trap, "of the test"));
        assert!(granted.ask(&gate, HostFunction::ClockNowMs, "main").is_err());
    }

    #[test]
    fn one_function_grants_no_other() {
        let gate = gate("database-only");
        let mut granted = Granted::default();
        assert!(granted.ask(&gate, HostFunction::Log, "main").is_ok());
        for _ in 0..2 {
            assert!(granted.ask(&gate, HostFunction::RandomFill, "main").is_err());
        }
    }
}
