/**
 * Where clouds answer a machine with its own credentials, settings and user data. No origin is ever there, so these addresses are never
 * asked, whatever the settings say. Each vendor's addresses and names are as its own documentation and SDKs have them.
 */

interface MetadataService {
  readonly vendor: string
  /** Addresses and networks (`BASE/BITS`), each in one spelling; special-address.ts knows the others. */
  readonly networks: readonly string[]
  readonly names: readonly string[]
}

export const METADATA_SERVICES: readonly MetadataService[] = [
  // most vendors' 169.254.169.254, and 169.254.170.2 and .23 (AWS tasks), 169.254.42.42 (Scaleway), 169.254.0.23 (Tencent);
  // fe80::a9fe:a9fe is OpenStack's and Akamai's
  { vendor: 'link-local', networks: ['169.254.0.0/16', 'fe80::/10'], names: ['metadata', 'instance-data'] },
  // the block of IMDS ::254, EKS Pod Identity ::23, DNS ::253 and NTP ::123
  { vendor: 'AWS', networks: ['fd00:ec2::/32'], names: ['instance-data.ec2.internal'] },
  { vendor: 'Google', networks: ['fd20:ce::254'], names: ['metadata.google.internal', 'metadata.goog'] },
  // WireServer, at an address of the public internet
  { vendor: 'Azure', networks: ['168.63.129.16'], names: ['metadata.azure.internal'] },
  { vendor: 'Alibaba', networks: ['100.100.100.200', 'fd00:100::100:200'], names: [] },
  { vendor: 'Oracle', networks: ['192.0.0.192', 'fd00:c1::a9fe:a9fe'], names: [] },
  { vendor: 'Volcano Engine', networks: ['100.96.0.96'], names: [] },
  { vendor: 'Scaleway', networks: ['fd00:42::42'], names: [] },
  { vendor: 'Akamai', networks: ['fd00:a9fe:a9fe::1'], names: [] },
  { vendor: 'Tencent', networks: [], names: ['metadata.tencentyun.com'] },
  { vendor: 'IBM', networks: [], names: ['api.metadata.cloud.ibm.com'] },
  // by the asker's address, and at addresses of the public internet
  { vendor: 'Equinix', networks: [], names: ['metadata.platformequinix.com', 'metadata.packet.net'] },
]
