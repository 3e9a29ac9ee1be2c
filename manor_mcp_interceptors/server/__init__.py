"""Verification of inbound tokens, and one adapter module for each server framework."""
