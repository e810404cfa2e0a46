"""Federation under load: our server alone, with scripted receivers."""
