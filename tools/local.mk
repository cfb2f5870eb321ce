# SPDX-License-Identifier: Apache-2.0
# The programs: argument parsing, configuration, printing.
noinst_LTLIBRARIES += tools/libtools.la
noinst_LTLIBRARIES += tools/libserverconfig.la
tools_libtools_la_SOURCES = \
	tools/backup.c \
	tools/backup.h \
	tools/bundle.c \
	tools/bundle.h \
	tools/cli.c \
	tools/cli.h \
	tools/cli_print.c \
	tools/cms.c \
	tools/cms.h \
	tools/csv.c \
	tools/csv.h \
	tools/identity.c \
	tools/identity.h \
	tools/provision.c \
	tools/provision.h \
	tools/provision_address.c \
	tools/receipt.c \
	tools/receipt.h \
	tools/secret.c \
	tools/secret.h \
	tools/times.c \
	tools/times.h \
	tools/token.c \
	tools/token.h \
	tools/words.c \
	tools/words.h \
	$(NULL)
tools_libtools_la_CFLAGS = $(AM_CFLAGS) $(CRYPTO_CFLAGS) $(JANSSON_CFLAGS) $(UV_CFLAGS) $(P11KIT_CFLAGS)
tools_libtools_la_LIBADD = $(CRYPTO_LIBS) $(JANSSON_LIBS)

tools_libserverconfig_la_SOURCES = \
	tools/client_config.c \
	tools/client_config.h \
	tools/client_config_tunnel.c \
	tools/client_config_tunnel.h \
	tools/server_config.c \
	tools/server_config.h \
	tools/server_config_load.c \
	tools/server_config_share.c \
	tools/server_config_tunnel.c \
	tools/server_config_edit.c \
	tools/server_config_edit.h \
	tools/server_config_template.c \
	tools/server_config_value.c \
	tools/server_config_value.h \
	$(NULL)
tools_libserverconfig_la_CFLAGS = $(AM_CFLAGS) $(INIH_CFLAGS) $(JANSSON_CFLAGS) $(UV_CFLAGS)
tools_libserverconfig_la_LIBADD = $(INIH_LIBS)

tool_cflags = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(UV_CFLAGS) $(P11KIT_CFLAGS)
tool_cppflags = $(AM_CPPFLAGS) -DSYSCONFDIR='"$(sysconfdir)"'
tool_libs = tools/libtools.la net/libnet.la registry/libregistry.la libchaveiro-testable.la

bin_PROGRAMS += tools/keyadmin
tools_keyadmin_SOURCES = \
	tools/keyadmin.c \
	tools/keyadmin.h \
	tools/keyadmin_audit.c \
	tools/keyadmin_bulk.c \
	tools/keyadmin_bundle.c \
	tools/keyadmin_check.c \
	tools/keyadmin_client.c \
	tools/keyadmin_client_list.c \
	tools/keyadmin_client_state.c \
	tools/keyadmin_derive.c \
	tools/keyadmin_epoch.c \
	tools/keyadmin_epoch_list.c \
	tools/keyadmin_epoch_registry.c \
	tools/keyadmin_grant.c \
	tools/keyadmin_identity.c \
	tools/keyadmin_init.c \
	tools/keyadmin_receipt.c \
	tools/keyadmin_registry.c \
	tools/keyadmin_registry.h \
	tools/chaveiro_files_progress.c \
	tools/keyadmin_push.c \
	tools/keyadmin_push.h \
	tools/keyadmin_push_status.c \
	tools/keyadmin_push_targets.c \
	tools/keyadmin_registry_new.c \
	tools/keyadmin_restore.c \
	tools/keyadmin_server.c \
	tools/keyadmin_ticket_keys.c \
	tools/keyadmin_token.c \
	tools/keyadmin_token_check.c \
	$(NULL)
tools_keyadmin_CFLAGS = $(tool_cflags)
tools_keyadmin_CPPFLAGS = $(tool_cppflags)
tools_keyadmin_LDADD = tools/libserverconfig.la services/libservices.la $(tool_libs)

bin_PROGRAMS += tools/chaveiro
tools_chaveiro_SOURCES = \
	tools/chaveiro.c \
	tools/chaveiro.h \
	tools/chaveiro_chat.c \
	tools/chaveiro_connect.c \
	tools/chaveiro_files.c \
	tools/chaveiro_files.h \
	tools/chaveiro_files_ask.c \
	tools/chaveiro_files_command.c \
	tools/chaveiro_files_get.c \
	tools/chaveiro_files_list.c \
	tools/chaveiro_files_local.c \
	tools/chaveiro_files_names.c \
	tools/chaveiro_files_progress.c \
	tools/chaveiro_files_put.c \
	tools/chaveiro_files_queue.c \
	tools/chaveiro_files_tree.c \
	tools/chaveiro_ftp.c \
	tools/chaveiro_ftp.h \
	tools/chaveiro_ftp_commands.c \
	tools/chaveiro_ftp_control.c \
	tools/chaveiro_ftp_data.c \
	tools/chaveiro_ftp_files.c \
	tools/chaveiro_ftp_owner.c \
	tools/chaveiro_ftp_session.c \
	tools/chaveiro_ftp_text.c \
	tools/chaveiro_ftp_text.h \
	tools/chaveiro_ftp_transfer.c \
	tools/chaveiro_key.c \
	tools/chaveiro_link.c \
	tools/chaveiro_ping.c \
	tools/chaveiro_receipt.c \
	tools/chaveiro_receipt.h \
	tools/chaveiro_reply.c \
	tools/chaveiro_send.c \
	tools/chaveiro_shell.c \
	tools/chaveiro_shell.h \
	tools/chaveiro_shell_commands.c \
	tools/chaveiro_shell_complete.c \
	tools/chaveiro_shell_edit.c \
	tools/chaveiro_shell_run.c \
	tools/chaveiro_tickets.c \
	tools/chaveiro_tunnel.c \
	tools/chaveiro_tunnel.h \
	tools/chaveiro_tunnel_local.c \
	tools/chaveiro_tunnel_session.c \
	tools/chaveiro_tunnel_text.c \
	tools/chaveiro_update.c \
	tools/chaveiro_watch.c \
	tools/chaveiro_watch_journal.c \
	tools/chaveiro_watch_journal.h \
	tools/chaveiro_watch_state.c \
	tools/chaveiro_watch_state.h \
	$(NULL)
tools_chaveiro_CFLAGS = $(tool_cflags) $(EDIT_CFLAGS) $(SYSTEMD_CFLAGS)
tools_chaveiro_LDADD = tools/libserverconfig.la services/libservices.la $(tool_libs) $(EDIT_LIBS) $(SYSTEMD_LIBS)

sbin_PROGRAMS += tools/chaveirod
tools_chaveirod_SOURCES = \
	tools/chaveirod.c \
	tools/chaveirod_check.c \
	tools/chaveirod_check.h \
	$(NULL)
tools_chaveirod_CFLAGS = $(tool_cflags)
tools_chaveirod_CPPFLAGS = $(tool_cppflags)
tools_chaveirod_LDADD = tools/libserverconfig.la services/libservices.la $(tool_libs)
