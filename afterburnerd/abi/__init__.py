"""Layouts that two processes share: statistics, record ring, rules, control messages. Imports nothing else of ours."""
