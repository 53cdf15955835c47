//! What must survive a restart: decisions, audit, versioned objects.
