# SPDX-License-Identifier: Apache-2.0
"""What the RPC suites share: servers, actors, the typed client, the test case."""
