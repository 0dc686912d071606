"""Examines this host: what would hinder the bundle, and the remedy for each finding."""
