// A throw-away Postfix that does nothing but its own before-queue filter proxy (smtpd_proxy_filter): what the gateway is measured against.
// No filtering, no look-ups, no limits, no logging to the system: only the proxy is left. No queue is used, nothing is delivered.
import { freePort } from '../conformance/gateway.ts'
import { DOMAIN } from '../support/gateway.ts'
import { Postfix } from '../support/postfix.ts'

const SETTINGS = {
  myhostname: 'mx.example.com',
  mydestination: DOMAIN,
  local_recipient_maps: '',
  smtpd_recipient_restrictions: 'permit_mynetworks, reject',
  smtpd_client_connection_count_limit: '0',
  smtpd_client_connection_rate_limit: '0',
  smtpd_error_sleep_time: '0',
  default_process_limit: '200',
  message_size_limit: '52428800',
}

/** Needs root. */
export async function startPostfixProxy(folder: string, sinkPort: number): Promise<Postfix> {
  const port = await freePort()
  const service = `127.0.0.1:${port} inet n - n - - smtpd -o smtpd_proxy_filter=127.0.0.1:${sinkPort}`
  return Postfix.start({ folder, port, services: [service], settings: SETTINGS })
}
