"""One package per role. They import the engine; the engine finds them through the registry."""
