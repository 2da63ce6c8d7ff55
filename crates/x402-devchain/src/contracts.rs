//! The contracts of a new chain in addition to the [token](crate::TOKEN), each at its address on public chains.
//!
//! The addresses of EntryPoints, Kernel, its modules and the Safe module are those of [`x402_erc4337`], and those of
//! Permit2 and the proxies that use it those of [`x402_evm::permit2`]; this module
//! adds the rest and describes how each is created. Third-party bytecode is in `contracts/third-party`, with its
//! licences.

use alloy_primitives::{Address, B256, Bytes, address, b256, hex};
use x402_erc4337::EntryPointVersion;
use x402_erc4337::session::safe::SAFE_4337_MODULE;
use x402_erc4337::session::zerodev::contracts::{
    GAS, RATE_LIMIT, RATE_LIMIT_WITH_RESET, SIGNATURE_CALLER, SUDO, TIMESTAMP,
};
use x402_erc4337::session::zerodev::{CallPolicyVersion, ECDSA_SIGNER, ECDSA_VALIDATOR, KernelVersion, META_FACTORY};
use x402_evm::permit2::{EXACT_PROXY, PERMIT2, UPTO_PROXY};

use crate::plans::PLANS;
use crate::token::TOKEN;

/// The contract EntryPoint 0.6.
pub const ENTRY_POINT_V06: Address = EntryPointVersion::V06.address();
/// The contract EntryPoint 0.7.
pub const ENTRY_POINT_V07: Address = EntryPointVersion::V07.address();
/// The contract EntryPoint 0.8.
pub const ENTRY_POINT_V08: Address = EntryPointVersion::V08.address();
/// EntryPoint 0.9: the code of the release candidate.
pub const ENTRY_POINT_V09: Address = EntryPointVersion::V09.address();
/// Kernel 0.3.1, the implementation behind each account's proxy.
pub const KERNEL: Address = KernelVersion::V031.implementation();
/// The factory of Kernel 0.3.1, approved by [`META_FACTORY`].
pub const KERNEL_FACTORY: Address = KernelVersion::V031.factory();
/// The call policy 0.0.4.
pub const CALL_POLICY: Address = CallPolicyVersion::V004.address();
/// [The deployer by CREATE2](https://github.com/Arachnid/deterministic-deployment-proxy): it takes salt and creation
/// code, and returns 20 bytes.
pub const CREATE2_DEPLOYER: Address = address!("4e59b44847b379578588920ca78fbf26c0b4956c");
/// [The same code](https://github.com/safe-global/safe-singleton-factory), with which Safe creates its contracts.
pub const SAFE_SINGLETON_FACTORY: Address = address!("914d7Fec6aaC8cd542e72Bca78B30650d45643d7");
/// Safe 1.4.1, the implementation behind each account's proxy.
pub const SAFE: Address = address!("41675C099F32341bf84BFc5382aF534df5C7461a");
/// The factory of Safe 1.4.1's proxies.
pub const SAFE_PROXY_FACTORY: Address = address!("4e1DCf7AD4e460CfD30791CCC4F9c8a4f820ec67");
/// The contract to which a new Safe delegates to enable [`SAFE_4337_MODULE`].
pub const SAFE_MODULE_SETUP: Address = address!("2dd68b007B46fBe91B9A7c3EDa5A7a1063cB5b47");
/// Simple7702Account of EntryPoint 0.8, as a delegate by EIP-7702.
pub const SIMPLE_7702_ACCOUNT: Address = address!("e6Cae83BdE06E4c305530e199D7217f42808555B");
/// The contract [Multicall3](https://github.com/mds1/multicall3).
pub const MULTICALL3: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");

/// Returns the creation code of EntryPoint 0.7's VerifyingPaymaster, whose sponsorships `signer` signs: for a
/// transaction, or for [`DevChain::construct`](crate::DevChain::construct), which makes `ACCOUNTS[0]` its owner.
#[must_use]
pub fn verifying_paymaster(signer: Address) -> Bytes {
    creation(include_bytes!("../contracts/third-party/VerifyingPaymaster-0.7.0.bin"), &[ENTRY_POINT_V07, signer])
}

/// Returns the creation code of the Simple7702Account of EntryPoint 0.9's release candidate, for
/// [`DevChain::construct`](crate::DevChain::construct) or a transaction. The address of the final contract is unknown.
#[must_use]
pub fn simple_7702_account_v09() -> Bytes {
    creation(include_bytes!("../contracts/third-party/Simple7702Account-0.9.0-rc.1.bin"), &[ENTRY_POINT_V09])
}

/// A contract of genesis.
pub(crate) struct Contract {
    pub(crate) address: Address,
    pub(crate) code: Code,
    pub(crate) made: Made,
}

pub(crate) enum Code {
    /// An artifact of `contracts/build.mjs`.
    Artifact(&'static str),
    Bytes(&'static [u8]),
}

/// The way in which the code gets to its address.
pub(crate) enum Made {
    /// The artifact is runtime code.
    Placed,
    /// The constructor runs at the address, with these arguments.
    At(&'static [Address]),
    /// A deployer creates the contract by CREATE2, as on public chains, so that the bytes themselves prove the address.
    Create2 { deployer: Address, salt: B256, arguments: &'static [Address] },
}

/// The contracts in the order of their creation: a constructor may call earlier ones.
pub(crate) const CONTRACTS: &[Contract] = &[
    own(TOKEN, include_str!("../contracts/artifacts/DevUsdc.json"), &[]),
    own(PLANS, include_str!("../contracts/artifacts/DevPlans.json"), &[]),
    Contract { address: CREATE2_DEPLOYER, code: Code::Bytes(&DEPLOYER_CODE), made: Made::Placed },
    Contract { address: SAFE_SINGLETON_FACTORY, code: Code::Bytes(&DEPLOYER_CODE), made: Made::Placed },
    create2(
        CREATE2_DEPLOYER,
        B256::ZERO,
        ENTRY_POINT_V06,
        include_bytes!("../contracts/third-party/EntryPoint-0.6.0.bin"),
        &[],
    ),
    create2(
        CREATE2_DEPLOYER,
        b256!("90d8084deab30c2a37c45e8d47f49f2f7965183cb6990a98943ef94940681de3"),
        ENTRY_POINT_V07,
        include_bytes!("../contracts/third-party/EntryPoint-0.7.0.bin"),
        &[],
    ),
    create2(
        CREATE2_DEPLOYER,
        b256!("0a59dbff790c23c976a548690c27297883cc66b4c67024f9117b0238995e35e9"),
        ENTRY_POINT_V08,
        include_bytes!("../contracts/third-party/EntryPoint-0.8.0.bin"),
        &[],
    ),
    at(ENTRY_POINT_V09, include_bytes!("../contracts/third-party/EntryPoint-0.9.0-rc.1.bin"), &[]),
    at(KERNEL, include_bytes!("../contracts/third-party/Kernel-0.3.1.bin"), &[ENTRY_POINT_V07]),
    at(KERNEL_FACTORY, include_bytes!("../contracts/third-party/KernelFactory-0.3.1.bin"), &[KERNEL]),
    own(META_FACTORY, include_str!("../contracts/artifacts/MetaFactory.json"), &[KERNEL_FACTORY]),
    own(ECDSA_VALIDATOR, include_str!("../contracts/artifacts/EcdsaValidator.json"), &[]),
    own(ECDSA_SIGNER, include_str!("../contracts/artifacts/EcdsaSigner.json"), &[]),
    own(CALL_POLICY, include_str!("../contracts/artifacts/CallPolicy.json"), &[]),
    own(TIMESTAMP, include_str!("../contracts/artifacts/TimestampPolicy.json"), &[]),
    own(GAS, include_str!("../contracts/artifacts/GasPolicy.json"), &[]),
    own(RATE_LIMIT, include_str!("../contracts/artifacts/RateLimitPolicy.json"), &[]),
    own(RATE_LIMIT_WITH_RESET, include_str!("../contracts/artifacts/RateLimitResetPolicy.json"), &[]),
    own(SIGNATURE_CALLER, include_str!("../contracts/artifacts/SignatureCallerPolicy.json"), &[]),
    own(SUDO, include_str!("../contracts/artifacts/SudoPolicy.json"), &[]),
    create2(SAFE_SINGLETON_FACTORY, B256::ZERO, SAFE, include_bytes!("../contracts/third-party/Safe-1.4.1.bin"), &[]),
    create2(
        SAFE_SINGLETON_FACTORY,
        B256::ZERO,
        SAFE_PROXY_FACTORY,
        include_bytes!("../contracts/third-party/SafeProxyFactory-1.4.1.bin"),
        &[],
    ),
    create2(
        CREATE2_DEPLOYER,
        B256::ZERO,
        SAFE_4337_MODULE,
        include_bytes!("../contracts/third-party/Safe4337Module-0.3.0.bin"),
        &[ENTRY_POINT_V07],
    ),
    create2(
        CREATE2_DEPLOYER,
        B256::ZERO,
        SAFE_MODULE_SETUP,
        include_bytes!("../contracts/third-party/SafeModuleSetup-0.3.0.bin"),
        &[],
    ),
    create2(
        CREATE2_DEPLOYER,
        B256::ZERO,
        SIMPLE_7702_ACCOUNT,
        include_bytes!("../contracts/third-party/Simple7702Account-0.8.0.bin"),
        &[],
    ),
    at(MULTICALL3, include_bytes!("../contracts/third-party/Multicall3.bin"), &[]),
    Contract {
        address: PERMIT2,
        code: Code::Bytes(include_bytes!("../contracts/third-party/Permit2.bin")),
        made: Made::Placed,
    },
    own(EXACT_PROXY, include_str!("../contracts/artifacts/X402ExactPermit2Proxy.json"), &[PERMIT2]),
    own(UPTO_PROXY, include_str!("../contracts/artifacts/X402UptoPermit2Proxy.json"), &[PERMIT2]),
];

/// Code that copies everything after the first word, and creates it by CREATE2 with the first word as salt.
const DEPLOYER_CODE: [u8; 69] = hex!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

const fn own(address: Address, artifact: &'static str, arguments: &'static [Address]) -> Contract {
    Contract { address, code: Code::Artifact(artifact), made: Made::At(arguments) }
}

const fn at(address: Address, code: &'static [u8], arguments: &'static [Address]) -> Contract {
    Contract { address, code: Code::Bytes(code), made: Made::At(arguments) }
}

const fn create2(
    deployer: Address,
    salt: B256,
    address: Address,
    code: &'static [u8],
    arguments: &'static [Address],
) -> Contract {
    Contract { address, code: Code::Bytes(code), made: Made::Create2 { deployer, salt, arguments } }
}

/// Appends the constructor's arguments to the code, a word each.
pub(crate) fn creation(code: &[u8], arguments: &[Address]) -> Bytes {
    let mut creation = code.to_vec();
    for argument in arguments {
        creation.extend_from_slice(argument.into_word().as_slice());
    }
    creation.into()
}
