"""From what was asked to rounds done: settings, plan, controller, and what runs beside it."""
