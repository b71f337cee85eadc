"""The Responses protocol: request, items, events, the emitter that numbers and orders them, the sinks."""
