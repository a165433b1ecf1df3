"""Linear models in a basis, with prior variances by order: model, presets and posterior."""
