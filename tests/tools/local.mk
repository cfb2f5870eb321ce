# SPDX-License-Identifier: Apache-2.0
# The programs: their parts, and the programs themselves from end to end.
tools_tests = \
	tests/tools/backup_test \
	tests/tools/bundle_test \
	tests/tools/cli_test \
	tests/tools/config_edit_test \
	tests/tools/csv_test \
	tests/tools/ftp_text_test \
	tests/tools/receipt_test \
	tests/tools/secret_test \
	tests/tools/server_config_ports_test \
	tests/tools/server_config_test \
	tests/tools/times_test \
	tests/tools/words_test \
	tests/tools/watch_state_test \
	$(NULL)
check_PROGRAMS += $(tools_tests)
TESTS += $(tools_tests)
tools_test_cflags = $(test_cflags) $(JANSSON_CFLAGS)
tools_test_libs = tools/libtools.la $(test_libs)
tests_tools_backup_test_SOURCES = tests/tools/backup_test.c $(needle_support) $(keystore_test_support)
tests_tools_backup_test_CFLAGS = $(tools_test_cflags) $(UV_CFLAGS)
tests_tools_backup_test_LDADD = tools/libtools.la net/libnet.la $(test_libs)
tests_tools_bundle_test_SOURCES = tests/tools/bundle_test.c
tests_tools_bundle_test_CFLAGS = $(tools_test_cflags) $(UV_CFLAGS) $(CRYPTO_CFLAGS)
tests_tools_bundle_test_LDADD = tools/libtools.la net/libnet.la $(test_libs)
tests_tools_ftp_text_test_SOURCES = tests/tools/ftp_text_test.c tools/chaveiro_ftp_text.c tools/chaveiro_ftp_text.h
tests_tools_ftp_text_test_CFLAGS = $(tools_test_cflags) $(UV_CFLAGS)
tests_tools_ftp_text_test_LDADD = services/libservices.la net/libnet.la $(test_libs)
tests_tools_csv_test_CFLAGS = $(tools_test_cflags)
tests_tools_csv_test_LDADD = $(tools_test_libs)
tests_tools_receipt_test_SOURCES = tests/tools/receipt_test.c tools/chaveiro_receipt.c tools/chaveiro_receipt.h $(keystore_test_support)
tests_tools_receipt_test_CFLAGS = $(tools_test_cflags) $(UV_CFLAGS) $(P11KIT_CFLAGS)
tests_tools_receipt_test_LDADD = tools/libtools.la $(net_test_libs)
tests_tools_cli_test_CFLAGS = $(tools_test_cflags)
tests_tools_cli_test_LDADD = $(tools_test_libs)
tests_tools_secret_test_CFLAGS = $(tools_test_cflags)
tests_tools_secret_test_LDADD = $(tools_test_libs)
tests_tools_config_edit_test_CFLAGS = $(tools_test_cflags) $(UV_CFLAGS)
tests_tools_config_edit_test_LDADD = tools/libserverconfig.la tools/libtools.la $(net_test_libs)
tests_tools_server_config_test_CFLAGS = $(tools_test_cflags) $(UV_CFLAGS)
tests_tools_server_config_test_LDADD = tools/libserverconfig.la tools/libtools.la $(net_test_libs)
tests_tools_server_config_ports_test_CFLAGS = $(tools_test_cflags) $(UV_CFLAGS)
tests_tools_server_config_ports_test_LDADD = tools/libserverconfig.la tools/libtools.la $(net_test_libs)
tests_tools_words_test_CFLAGS = $(tools_test_cflags)
tests_tools_words_test_LDADD = $(tools_test_libs)
tests_tools_times_test_CFLAGS = $(tools_test_cflags)
tests_tools_times_test_LDADD = $(tools_test_libs)
tests_tools_watch_state_test_SOURCES = tests/tools/watch_state_test.c tools/chaveiro_watch_journal.c tools/chaveiro_watch_state.c
tests_tools_watch_state_test_CFLAGS = $(net_test_cflags) $(CRYPTO_CFLAGS)
tests_tools_watch_state_test_LDADD = services/libservices.la $(net_test_libs) $(CRYPTO_LIBS)

tools_test_scripts = \
	tests/tools/backup.py \
	tests/tools/bundle.py \
	tests/tools/chaveiro.py \
	tests/tools/client_life.py \
	tests/tools/client_reissue.py \
	tests/tools/client_tickets.py \
	tests/tools/client_tokens.py \
	tests/tools/chaveiro_chat.py \
	tests/tools/chaveiro_refusals.py \
	tests/tools/chaveirod_check.py \
	tests/tools/chaveirod_processes.py \
	tests/tools/chaveirod_strangers.py \
	tests/tools/conf_manual.py \
	tests/tools/connector.py \
	tests/tools/data_side.py \
	tests/tools/documented.py \
	tests/tools/files.py \
	tests/tools/ftp.py \
	tests/tools/ftp_hostile.py \
	tests/tools/files_server.py \
	tests/tools/files_client.py \
	tests/tools/files_shell.py \
	tests/tools/duplicates.py \
	tests/tools/push.py \
	tests/tools/push_killed.py \
	tests/tools/identity_keys.py \
	tests/tools/identity_site.py \
	tests/tools/keyadmin.py \
	tests/tools/keyadmin_prompt.py \
	tests/tools/token_admin.py \
	tests/tools/token_calls.py \
	tests/tools/token_faults.py \
	tests/tools/token_module.py \
	tests/tools/token_hang.py \
	tests/tools/token_messages.py \
	tests/tools/token_pin.py \
	tests/tools/token_site.py \
	tests/tools/token_warnings.py \
	tests/tools/receipts.py \
	tests/tools/registrar.py \
	tests/tools/registry_faults.py \
	tests/tools/registry_life.py \
	tests/tools/registry_postgresql.py \
	tests/tools/registry_site.py \
	tests/tools/server_expiry.py \
	tests/tools/tickets.py \
	tests/tools/tickets_token.py \
	tests/tools/keyadmin_epoch.py \
	tests/tools/rotation.py \
	tests/tools/rotation_faults.py \
	tests/tools/rotation_server.py \
	tests/tools/server_hostile.py \
	tests/tools/server_life.py \
	tests/tools/server_processes.py \
	tests/tools/server_refusals.py \
	tests/tools/two_ports.py \
	$(NULL)
tools_test_scripts += \
	tests/tools/token_backend.py \
	tests/tools/token_killed.py \
	tests/tools/token_lost.py \
	tests/tools/token_made.py \
	tests/tools/tunnel.py \
	tests/tools/tunnel_connect.py \
	tests/tools/tunnel_drain.py \
	tests/tools/tunnel_limits.py \
	tests/tools/tunnel_server.py \
	tests/tools/tunnel_software.py \
	$(NULL)
EXTRA_DIST += tests/support/tunnelsite.py
EXTRA_DIST += tests/support/faulty.py
TESTS += $(tools_test_scripts)
dist_check_SCRIPTS += $(tools_test_scripts)
EXTRA_DIST += tests/support/clock.py tests/support/fakeserver.py tests/support/ftpsite.py tests/support/filesite.py tests/support/identityclient.py tests/support/softhsm.py tests/support/ports.py tests/support/pushes.py tests/support/rawclient.py tests/support/rotate.py tests/support/store.py tests/support/terminal.py tests/support/ticketclient.py
